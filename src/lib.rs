//! Weir: what the services of a self-hosted Sentry do, in one program.
