//! The key beside the catalog, and what is sealed with it: whoever has the catalog alone learns no secret.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sqlx::AnyPool;
use weir_protocol::ids::hex;

use crate::error::CatalogError;
use crate::projects::random_bytes;

/// Seals and opens secrets of the catalog (ChaCha20-Poly1305 with random nonces).
///
/// The key is 32 random bytes, in base64, in a file that only its owner may read, made when the catalog is. The catalog knows a
/// hash of it, so that a key that was lost or exchanged is noticed at the start and not when an alert is to be sent.
pub struct SecretKey {
    sealing: LessSafeKey,
    hashing: [u8; 32],
}

const KEY_BYTES: usize = 32;
/// What the keys of either purpose are derived with; a change makes everything sealed unreadable.
const SEALING: &str = "weir catalog 2026 sealing of secrets";
const HASHING: &str = "weir catalog 2026 hashing of notification targets";
const FINGERPRINT: &str = "weir catalog 2026 fingerprint of the key";

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl SecretKey {
    /// Reads the key file, or makes it where the catalog never had one.
    pub(crate) async fn open(pool: &AnyPool, path: &Path) -> Result<Self, CatalogError> {
        let lost = |reason: &str| CatalogError::SecretKey { path: path.to_owned(), reason: reason.to_owned() };
        let known: Option<String> = sqlx::query_scalar("SELECT value FROM weir_meta WHERE key = 'secret_key'").fetch_optional(pool).await?;
        let key = match (read(path)?, &known) {
            (Some(key), _) => key,
            (None, None) => create(path)?,
            (None, Some(_)) => return Err(lost("is not there")),
        };
        let fingerprint = hex(&blake3::derive_key(FINGERPRINT, &key)[..16]);
        sqlx::query("INSERT INTO weir_meta (key, value) VALUES ('secret_key', $1) ON CONFLICT (key) DO NOTHING").bind(&fingerprint).execute(pool).await?;
        let known: String = sqlx::query_scalar("SELECT value FROM weir_meta WHERE key = 'secret_key'").fetch_one(pool).await?;
        if known != fingerprint {
            return Err(lost("is not the one that the catalog's secrets are sealed with"));
        }
        Ok(Self::of(&key))
    }

    fn of(key: &[u8; KEY_BYTES]) -> Self {
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, &blake3::derive_key(SEALING, key)).expect("a derived key has the 32 bytes that the cipher takes");
        Self { sealing: LessSafeKey::new(unbound), hashing: blake3::derive_key(HASHING, key) }
    }

    /// Seals a text. `place` says where it stands, so that one put somewhere else does not open.
    pub(crate) fn seal(&self, place: &str, text: &str) -> Result<String, CatalogError> {
        let nonce: [u8; NONCE_LEN] = random_bytes()?;
        let mut bytes = text.as_bytes().to_vec();
        self.sealing
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()), &mut bytes)
            .map_err(|_| CatalogError::Corrupt { what: "a text too long to be sealed".to_owned() })?;
        Ok(BASE64_STANDARD.encode([&nonce[..], &bytes].concat()))
    }

    /// Opens what [`seal`](Self::seal) made at the same place.
    pub(crate) fn open_sealed(&self, place: &str, sealed: &str) -> Result<String, CatalogError> {
        let wrong = || CatalogError::Corrupt { what: format!("a secret ({place}) that its key does not open") };
        let bytes = BASE64_STANDARD.decode(sealed).map_err(|_| wrong())?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut rest = rest.to_vec();
        let text = self.sealing.open_in_place(nonce, Aad::from(place.as_bytes()), &mut rest).map_err(|_| wrong())?;
        String::from_utf8(text.to_vec()).map_err(|_| wrong())
    }

    /// A hash of a secret text that nobody without the key can try guesses against.
    pub(crate) fn hash(&self, text: &str) -> String {
        blake3::keyed_hash(&self.hashing, text.as_bytes()).to_hex()[..32].to_owned()
    }
}

fn failed(path: &Path, error: &std::io::Error) -> CatalogError {
    CatalogError::SecretKey { path: path.to_owned(), reason: format!("cannot be used ({error})") }
}

fn read(path: &Path) -> Result<Option<[u8; KEY_BYTES]>, CatalogError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let key = BASE64_STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
            key.map(Some).ok_or_else(|| CatalogError::SecretKey { path: path.to_owned(), reason: "holds no key".to_owned() })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

/// Makes a key and its file, synced. Where another process made one at the same time, that one stands.
fn create(path: &Path) -> Result<[u8; KEY_BYTES], CatalogError> {
    let key: [u8; KEY_BYTES] = random_bytes()?;
    let mut draft: PathBuf = path.to_owned();
    draft.set_extension(format!("key.{}", hex(&random_bytes::<8>()?)));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{}", BASE64_STANDARD.encode(key))?;
        file.sync_all()?;
        // A link, unlike a rename, does not replace a key that is there.
        match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    })();
    // A draft that cannot be removed does no harm: nobody reads it.
    let _ = std::fs::remove_file(&draft);
    written.map_err(|error| failed(path, &error))?;
    read(path)?.ok_or_else(|| failed(path, &std::io::Error::from(ErrorKind::NotFound)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::{Place, in_both_databases};

    #[test]
    fn what_is_sealed_opens_with_the_same_key_at_the_same_place_only() {
        let key = SecretKey::of(&[7; 32]);
        let sealed = key.seal("here", "hunter2").unwrap();
        assert!(!sealed.contains("hunter2"));
        assert_ne!(sealed, key.seal("here", "hunter2").unwrap(), "two nonces");
        assert_eq!(key.open_sealed("here", &sealed).unwrap(), "hunter2");
        key.open_sealed("there", &sealed).unwrap_err();
        SecretKey::of(&[8; 32]).open_sealed("here", &sealed).unwrap_err();
        for broken in ["", "AAAA", "no base64!", &sealed[4..]] {
            key.open_sealed("here", broken).unwrap_err();
        }
    }

    async fn the_key_is_made_once_and_its_loss_is_noticed(place: Place) {
        let key = place.dir().join("catalog.key");
        place.open().await.close().await;
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let first = std::fs::read_to_string(&key).unwrap();
        place.open().await.close().await;
        assert_eq!(std::fs::read_to_string(&key).unwrap(), first);
        let mut names: Vec<_> = std::fs::read_dir(place.dir()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("catalog.key"));
        assert_eq!(names, ["catalog.key"], "no draft is left");
        std::fs::remove_file(&key).unwrap();
        let error = place.try_open().await.unwrap_err();
        assert!(matches!(&error, CatalogError::SecretKey { reason, .. } if reason == "is not there"), "{error}");
        std::fs::write(&key, BASE64_STANDARD.encode([1; 32])).unwrap();
        let error = place.try_open().await.unwrap_err();
        assert!(matches!(&error, CatalogError::SecretKey { reason, .. } if reason.contains("not the one")), "{error}");
        std::fs::write(&key, "nonsense").unwrap();
        place.try_open().await.unwrap_err();
        std::fs::write(&key, first).unwrap();
        place.open().await;
    }

    in_both_databases!(the_key_is_made_once_and_its_loss_is_noticed);
}
