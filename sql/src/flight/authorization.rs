//! Who calls: the token of a call, in the forms in which clients send it.

use arrow_flight::{BasicAuth, HandshakeRequest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use futures::TryStreamExt;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status, Streaming};

use crate::scope::{Authenticator, Scope, Scopes};

/// The binary header that clients of Flight's first handshake send with every later call: what the handshake answered.
const FIRST_HANDSHAKE_HEADER: &str = "auth-token-bin";

/// The token of an `authorization` header: `Bearer TOKEN`, or `Basic` with the token as password or as user name.
fn token_of(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    // Arrow's Go client sends it without padding.
    let decoded = String::from_utf8(BASE64_STANDARD_NO_PAD.decode(value.trim().trim_end_matches('=')).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(if password.is_empty() { user } else { password }.to_owned())
}

fn token_in(metadata: &MetadataMap) -> Result<Option<String>, Status> {
    if let Some(header) = metadata.get("authorization") {
        let token = header.to_str().ok().and_then(token_of);
        return token.map(Some).ok_or_else(|| Status::unauthenticated("the authorization header is neither Bearer TOKEN nor Basic"));
    }
    let first = metadata.get_bin(FIRST_HANDSHAKE_HEADER).and_then(|value| value.to_bytes().ok());
    Ok(first.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()))
}

/// The token of a call.
pub(super) fn token<T>(request: &Request<T>) -> Result<String, Status> {
    token_in(request.metadata())?.ok_or_else(no_token)
}

fn no_token() -> Status {
    Status::unauthenticated("no token: send the header authorization: Bearer TOKEN")
}

/// The token of a call and what it may read.
pub(super) async fn authenticate<A: Authenticator, T>(scopes: &Scopes<A>, request: &Request<T>) -> Result<Scope, Status> {
    check(scopes, &token(request)?).await
}

/// The token of a handshake: of its header, else of the user and password in its first message. It is known and not revoked.
pub(super) async fn handshake<A: Authenticator>(scopes: &Scopes<A>, request: Request<Streaming<HandshakeRequest>>) -> Result<String, Status> {
    let token = match token_in(request.metadata())? {
        Some(token) => token,
        None => {
            let first = request.into_inner().try_next().await?.ok_or_else(no_token)?;
            let basic = BasicAuth::decode(first.payload).map_err(|_| no_token())?;
            if basic.password.is_empty() { basic.username } else { basic.password }
        }
    };
    check(scopes, &token).await?;
    Ok(token)
}

async fn check<A: Authenticator>(scopes: &Scopes<A>, token: &str) -> Result<Scope, Status> {
    match scopes.scope(token).await {
        Ok(Some(scope)) => Ok(scope),
        Ok(None) => Err(Status::unauthenticated("the token is unknown or revoked: `weir token create NAME` makes one")),
        Err(reason) => Err(Status::unavailable(format!("the token could not be checked: {reason}"))),
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn forms_of_authorization() {
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for (header, want) in [
            ("Bearer weir_x".to_owned(), Some("weir_x")),
            ("bearer weir_x".to_owned(), Some("weir_x")),
            (basic("anyone:weir_x"), Some("weir_x")),
            (basic("weir_x:"), Some("weir_x")),
            (basic("anyone:weir_x").trim_end_matches('=').to_owned(), Some("weir_x")),
            (basic("weir_x"), None),
            ("Basic !!".to_owned(), None),
            ("Digest x".to_owned(), None),
            ("Bearer".to_owned(), None),
        ] {
            assert_eq!(token_of(&header).as_deref(), want, "{header}");
        }
    }
}
