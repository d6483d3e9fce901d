//! Client hints: headers in which browsers say what they are (`Sec-CH-UA`, its platform, version and model).

use weir_protocol::json::Json;

use super::super::request::header;
use super::patterns::Agent;

/// What the hints of a request say.
pub fn agent(request: &Json<'_>) -> Agent {
    let unquoted = |name: &str| header(request, name).map(|text| text.trim().trim_matches('"')).filter(|text| !text.is_empty());
    let system = unquoted("Sec-CH-UA-Platform").map(|name| {
        let version = unquoted("Sec-CH-UA-Platform-Version").map(|version| ("version", version.to_owned()));
        [("name", name.to_owned())].into_iter().chain(version).collect()
    });
    let device = unquoted("Sec-CH-UA-Model").map(|model| vec![("model", model.to_owned())]);
    let browser = header(request, "Sec-CH-UA").and_then(brand).map(|(name, version)| vec![("name", name), ("version", version)]);
    Agent { browser, system, device }
}

/// The brand that is neither made up nor that of the engine, with its version.
fn brand(text: &str) -> Option<(String, String)> {
    text.split(',').find_map(|item| {
        let (name, version) = item.split_once(";v=")?;
        let (name, version) = (name.trim().trim_matches('"'), version.trim().trim_matches('"'));
        let is_made_up = name.contains("Brand") || name.contains("Not");
        (!is_made_up && name != "Chromium").then(|| (if name == "Google Chrome" { "Chrome" } else { name }.to_owned(), version.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brands() {
        let check = |text: &str, want: Option<(&str, &str)>| {
            assert_eq!(brand(text), want.map(|(name, version)| (name.to_owned(), version.to_owned())), "{text}");
        };
        check(r#""Not_A Brand";v="99", "Google Chrome";v="109", "Chromium";v="109""#, Some(("Chrome", "109")));
        check(r#""Chromium";v="109", "Microsoft Edge";v="110.1""#, Some(("Microsoft Edge", "110.1")));
        check(r#""Chromium";v="109""#, None);
        check("x", None);
    }
}
