//! Where an address is: a database in MaxMind's format (GeoIP2 City or GeoLite2 City), held in memory (`spec/ingest.md` section 3.5).

use std::fmt;
use std::net::IpAddr;

use maxminddb::{Reader, geoip2};
use weir_protocol::json::{Json, Object};

/// The places of addresses.
pub struct Places(Reader<Vec<u8>>);

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlacesError {
    /// It is not in the format, or damaged.
    #[error("it is no MaxMind database: {0}")]
    Format(#[from] maxminddb::MaxMindDbError),
    /// It tells something else of addresses.
    #[error("it is a {0} database: one of cities or countries is needed (GeoLite2-City, GeoIP2-City, GeoLite2-Country …)")]
    Kind(String),
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Places").field(&self.0.metadata().database_type).finish()
    }
}

impl Places {
    /// Reads a database. Its bytes stay in memory.
    ///
    /// # Errors
    /// [`PlacesError`] where it is none, or none of places.
    pub fn read(database: Vec<u8>) -> Result<Self, PlacesError> {
        let reader = Reader::from_source(database)?;
        let kind = &reader.metadata().database_type;
        if !kind.contains("City") && !kind.contains("Country") && !kind.contains("Enterprise") {
            return Err(PlacesError::Kind(kind.clone()));
        }
        Ok(Self(reader))
    }

    /// The members of `user.geo` for an address: `country_code`, `city`, `subdivision` and `region`, which is the country's name.
    /// `None` where the database does not know it.
    pub fn find(&self, address: IpAddr) -> Option<Object<'static>> {
        // A damaged entry is as good as none: the event does not wait for another database.
        let found = self.0.lookup(address).ok()?.decode::<geoip2::City<'_>>().ok()??;
        let subdivision = found.subdivisions.first().and_then(|subdivision| subdivision.names.english);
        let members = [
            ("country_code", found.country.iso_code),
            ("city", found.city.names.english),
            ("subdivision", subdivision),
            ("region", found.country.names.english),
        ];
        let geo: Object<'static> = members.into_iter().filter_map(|(key, text)| Some((key, Json::text(text?.to_owned())))).collect();
        (!geo.is_empty()).then_some(geo)
    }
}

/// Fills in where the event's user is, unless the event says it.
pub fn normalise(event: &mut Object<'_>, places: &Places) {
    let Some(Json::Object(user)) = event.get_mut("user") else { return };
    if user.get("geo").is_some() {
        return;
    }
    let address = user.get("ip_address").and_then(Json::as_str).and_then(|text| text.parse().ok());
    if let Some(geo) = address.and_then(|address| places.find(address)) {
        user.insert("geo", Json::Object(geo));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_database_is_said() {
        for bytes in [&b""[..], b"hello", &[0xab; 5000]] {
            assert!(matches!(Places::read(bytes.to_vec()), Err(PlacesError::Format(_))));
        }
    }
}
