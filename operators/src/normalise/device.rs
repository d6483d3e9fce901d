//! How able a device is: the tag `device.class` (`spec/ingest.md` section 3.5).
//!
//! The values and where they part were measured on the published package: `1` is low, `2` medium and `3` high. Apple's devices are
//! told apart by their model, all others by frequency, cores and memory.

use weir_protocol::json::{Json, Object};

/// The tag. What an SDK says under this name goes.
pub const TAG: &str = "device.class";

const GIBIBYTE: u64 = 1 << 30;
/// Below any of these a device is low.
const MEDIUM: Ability = Ability { frequency_mhz: 2000, cores: 8, memory_bytes: 4 * GIBIBYTE };
/// Below any of these it is no more than medium.
const HIGH: Ability = Ability { frequency_mhz: 2500, cores: 8, memory_bytes: 6 * GIBIBYTE };

/// Families whose devices are told apart by their model.
const APPLE: [&str; 2] = ["iOS", "iPhone"];
/// Apple's older devices, as `(kind, generation, first, last)`, where `iPhone5,2` is of the fifth generation. A model that is not
/// listed is newer than the list.
const LOW_MODELS: [(&str, u32, u32, u32); 15] = [
    ("iPhone", 1, 1, 2),
    ("iPhone", 2, 1, 1),
    ("iPhone", 3, 1, 3),
    ("iPhone", 4, 1, 1),
    ("iPhone", 5, 1, 4),
    ("iPhone", 6, 1, 2),
    ("iPhone", 7, 1, 2),
    ("iPhone", 8, 1, 2),
    ("iPhone", 8, 4, 4),
    ("iPad", 1, 1, 1),
    ("iPad", 2, 1, 7),
    ("iPad", 3, 1, 6),
    ("iPad", 4, 1, 9),
    ("iPad", 5, 1, 4),
    ("iPad", 6, 11, 12),
];
const MEDIUM_MODELS: [(&str, u32, u32, u32); 18] = [
    ("iPhone", 9, 1, 4),
    ("iPhone", 10, 1, 6),
    ("iPhone", 11, 2, 2),
    ("iPhone", 11, 4, 4),
    ("iPhone", 11, 6, 6),
    ("iPhone", 11, 8, 8),
    ("iPhone", 12, 1, 1),
    ("iPhone", 12, 3, 3),
    ("iPhone", 12, 5, 5),
    ("iPhone", 12, 8, 8),
    ("iPad", 6, 3, 4),
    ("iPad", 6, 7, 8),
    ("iPad", 7, 1, 6),
    ("iPad", 7, 11, 12),
    ("iPad", 8, 1, 12),
    ("iPad", 11, 1, 4),
    ("iPad", 11, 6, 7),
    ("iPad", 12, 1, 2),
];

struct Ability {
    frequency_mhz: u64,
    cores: u64,
    memory_bytes: u64,
}

impl Ability {
    fn reaches(&self, least: &Ability) -> bool {
        self.frequency_mhz >= least.frequency_mhz && self.cores >= least.cores && self.memory_bytes >= least.memory_bytes
    }
}

/// Adds the tag, where the device that the SDK described says enough. One that a user agent names says too little.
pub fn normalise(event: &mut Object<'_>) {
    let Some(class) = event.get("contexts").and_then(|contexts| contexts.get("device")).and_then(class) else { return };
    let tag = Json::Array(vec![Json::text(TAG), Json::text(class)]);
    match event.get_mut("tags") {
        Some(Json::Array(tags)) => tags.push(tag),
        _ => event.insert("tags", Json::Array(vec![tag])),
    }
}

fn class(device: &Json<'_>) -> Option<&'static str> {
    if device.str_at(&["type"]) != Some("device") {
        return None;
    }
    let family = device.str_at(&["family"])?;
    if APPLE.contains(&family) {
        let model = device.str_at(&["model"])?;
        return Some(if is_listed(model, &LOW_MODELS) {
            "1"
        } else if is_listed(model, &MEDIUM_MODELS) {
            "2"
        } else {
            "3"
        });
    }
    let number = |key| device.get(key).and_then(Json::as_u64);
    let ability = Ability { frequency_mhz: number("processor_frequency")?, cores: number("processor_count")?, memory_bytes: number("memory_size")? };
    Some(if !ability.reaches(&MEDIUM) {
        "1"
    } else if !ability.reaches(&HIGH) {
        "2"
    } else {
        "3"
    })
}

fn is_listed(model: &str, models: &[(&str, u32, u32, u32)]) -> bool {
    // A number is written in one way: `iPhone08,1` is no model.
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| number.to_string() == text);
    models.iter().any(|(kind, generation, first, last)| {
        let numbers = model.strip_prefix(kind).and_then(|rest| rest.split_once(','));
        numbers
            .and_then(|(major, minor)| Some((number(major)?, number(minor)?)))
            .is_some_and(|(major, minor)| major == *generation && (*first..=*last).contains(&minor))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let check = |device: &str, want: Option<&str>| {
            let device = format!(r#"{{"type":"device",{device}}}"#);
            assert_eq!(class(&Json::parse(device.as_bytes()).unwrap()), want, "{device}");
        };
        check(r#""family":"iPhone","model":"iPhone8,2""#, Some("1"));
        check(r#""family":"iPhone","model":"iPhone8,3""#, Some("3"));
        check(r#""family":"iPhone","model":"iPhone08,2""#, Some("3"));
        check(r#""family":"iOS","model":"iPad6,12""#, Some("1"));
        check(r#""family":"iOS","model":"iPhone12,8""#, Some("2"));
        check(r#""family":"iOS","model":"iPad8,12""#, Some("2"));
        check(r#""family":"iOS","model":"iPhone17,1""#, Some("3"));
        check(r#""family":"iOS","model":"""#, Some("3"));
        check(r#""family":"iOS","processor_frequency":3000,"processor_count":8,"memory_size":8589934592"#, None);
        check(r#""family":"iPad","model":"iPad6,12""#, None);
        check(r#""family":"Pixel","processor_frequency":2499,"processor_count":8,"memory_size":8589934592"#, Some("2"));
        check(r#""family":"Pixel","processor_frequency":2500,"processor_count":8,"memory_size":6442450943"#, Some("2"));
        check(r#""family":"Pixel","processor_frequency":2500,"processor_count":8,"memory_size":6442450944"#, Some("3"));
        check(r#""family":"Pixel","processor_frequency":1999,"processor_count":8,"memory_size":8589934592"#, Some("1"));
        check(r#""family":"Pixel","processor_frequency":3000,"processor_count":7,"memory_size":8589934592"#, Some("1"));
        check(r#""family":"Pixel","processor_frequency":3000,"processor_count":8"#, None);
        check(r#""processor_frequency":3000,"processor_count":8,"memory_size":8589934592"#, None);
        assert_eq!(class(&Json::Null), None);
    }

    #[test]
    fn the_tag_comes_last() {
        let text = r#"{"contexts":{"device":{"type":"device","family":"iOS","model":"iPhone9,1"}},"tags":[["a","1"]]}"#;
        let mut event = Json::parse(text.as_bytes()).unwrap();
        normalise(event.as_object_mut().unwrap());
        assert_eq!(event.get("tags").map(Json::to_string).unwrap(), r#"[["a","1"],["device.class","2"]]"#);
    }
}
