//! The HTTP doors for SDKs.
