//! The fields of an event and of what it holds (`spec/ingest.md` sections 3.1 and 3.2), measured on Relay's published package.
//!
//! Limits are those of Relay. Where a table is long, its order is the order in which a context's limit is spent.

use super::schema::{Chars, Field, Kind, Other, Struct};
use super::{image, request, tags};

const fn text(name: &'static str) -> Field {
    Field::text(name)
}

const fn primitive(name: &'static str) -> Field {
    Field::new(name, Kind::Primitive)
}

const fn boolean(name: &'static str) -> Field {
    Field::new(name, Kind::Bool)
}

const fn unsigned(name: &'static str) -> Field {
    Field::new(name, Kind::Unsigned)
}

const fn signed(name: &'static str) -> Field {
    Field::new(name, Kind::Signed)
}

const fn number(name: &'static str) -> Field {
    Field::new(name, Kind::Number)
}

const fn time(name: &'static str) -> Field {
    Field::new(name, Kind::Time)
}

const fn any(name: &'static str) -> Field {
    Field::new(name, Kind::Any)
}

const fn bag(name: &'static str) -> Field {
    Field::new(name, Kind::Bag)
}

const fn address(name: &'static str) -> Field {
    Field::new(name, Kind::Address)
}

const fn object(name: &'static str, of: &'static Struct) -> Field {
    Field::new(name, Kind::Object(of))
}

const fn list(name: &'static str, of: &'static Field) -> Field {
    Field::new(name, Kind::List(of))
}

/// Names of how a span ended, the one that is kept first, with its number.
pub static STATUSES: [(&[&str], Option<u64>); 17] = [
    (&["ok", "success"], Some(0)),
    (&["cancelled"], Some(1)),
    (&["unknown"], Some(2)),
    (&["invalid_argument"], Some(3)),
    (&["deadline_exceeded"], Some(4)),
    (&["not_found"], Some(5)),
    (&["already_exists"], Some(6)),
    (&["permission_denied"], Some(7)),
    (&["resource_exhausted"], Some(8)),
    (&["failed_precondition"], Some(9)),
    (&["aborted"], Some(10)),
    (&["out_of_range"], Some(11)),
    (&["unimplemented"], Some(12)),
    (&["internal_error", "unknown_error", "failure"], Some(13)),
    (&["unavailable"], Some(14)),
    (&["data_loss"], Some(15)),
    (&["unauthenticated"], Some(16)),
];

static TEXT: Field = text("");

/// An event.
pub static EVENT: Struct = Struct {
    name: "event",
    other: Other::Refused,
    fields: &[
        Field::new("event_id", Kind::EventId),
        Field::new("level", Kind::Level),
        any("version"),
        any("type"),
        Field::new("fingerprint", Kind::Special(super::fingerprint::read)),
        text("culprit").max(200, 0),
        text("transaction").max(200, 0).trimmed(),
        object("transaction_info", &TRANSACTION_INFO),
        unsigned("time_spent"),
        Field::new("logentry", Kind::Special(super::message::read)),
        text("logger").max(64, 0).of(Chars::Without("\r\n")),
        Field::new("modules", Kind::Map(&MODULE)).bag(8192, 7).skipped(),
        text("platform"),
        time("timestamp"),
        time("start_timestamp"),
        any("received"),
        text("server_name"),
        primitive("release").max(200, 0).trimmed().nonempty(),
        text("dist").max(64, 0).trimmed().nonempty().of(Chars::Word("_.-")),
        text("environment").max(64, 0).trimmed().nonempty(),
        text("site"),
        object("user", &USER).skipped(),
        object("request", &REQUEST).skipped(),
        Field::new("contexts", Kind::Special(super::contexts::read)),
        Field::new("breadcrumbs", Kind::Values(&BREADCRUMB)),
        Field::new("exception", Kind::Values(&EXCEPTION)),
        object("stacktrace", &STACKTRACE),
        object("template", &TEMPLATE),
        Field::new("threads", Kind::Values(&THREAD)),
        Field::new("tags", Kind::Special(tags::read)),
        Field::new("extra", Kind::Map(&EXTRA)).bag(262_144, 7),
        object("debug_meta", &DEBUG_META).skipped(),
        object("sdk", &SDK),
        list("ingest_path", &INGEST_PATH).skipped(),
        list("errors", &ERROR).skipped(),
        any("key_id"),
        any("project"),
        any("grouping_config"),
        text("checksum").max(128, 0),
        object("csp", &CSP),
        bag("hpkp"),
        bag("expectct"),
        bag("expectstaple"),
        bag("nel"),
        list("spans", &SPAN),
        Field::new("measurements", Kind::Map(&MEASUREMENT)),
        Field::new("breakdowns", Kind::Map(&BREAKDOWN)).skipped(),
        any("scraping_attempts"),
        object("_metrics", &METRICS),
        any("_dsc"),
        boolean("_performance_issues_spans"),
        any("_meta"),
    ],
};

/// A message with its parameters.
pub static LOGENTRY: Struct = Struct {
    name: "logentry",
    other: Other::KeptWithNull,
    fields: &[text("message").max(8192, 200), text("formatted").max(8192, 200), Field::new("params", Kind::Params).bag(2048, 5)],
};

static EXTRA: Field = any("").bag(16_384, 0);
static MODULE: Field = text("").skipped();

static TRANSACTION_INFO: Struct = Struct {
    name: "transactioninfo",
    other: Other::Dropped,
    fields: &[text("source"), text("original").max(200, 0).trimmed(), list("changes", &TRANSACTION_CHANGE), unsigned("propagations")],
};

static TRANSACTION_CHANGE: Field =
    object("", &Struct { name: "transactionnamechange", other: Other::Dropped, fields: &[text("source"), unsigned("propagations"), time("timestamp")] });

/// A user. What is no field of it is gathered into `data` before.
pub static USER: Struct = Struct {
    name: "user",
    other: Other::KeptWithNull,
    fields: &[
        primitive("id").max(128, 0),
        text("email").max(75, 0),
        Field::new("ip_address", Kind::Ip),
        primitive("username").max(128, 0),
        text("name").max(128, 0),
        object("geo", &GEO).skipped(),
        text("segment").skipped(),
        text("sentry_user"),
        bag("data"),
    ],
};

static GEO: Struct = Struct {
    name: "geo",
    other: Other::Dropped,
    fields: &[text("country_code").max(102, 1004), text("city").max(1024, 100).skipped(), text("subdivision").max(1024, 100), text("region").max(1024, 100)],
};

static REQUEST: Struct = Struct {
    name: "request",
    other: Other::Dropped,
    fields: &[
        text("url").max(256, 40),
        text("method"),
        text("protocol"),
        any("data").bag(8192, 7),
        Field::new("query_string", Kind::Special(request::read_query)).bag(1024, 0).skipped(),
        text("fragment").max(1024, 100).skipped(),
        Field::new("cookies", Kind::Special(request::read_cookies)).bag(2048, 0),
        Field::new("headers", Kind::Special(request::read_headers)).bag(8192, 0).skipped(),
        unsigned("body_size"),
        bag("env").bag(8192, 7).skipped(),
        text("inferred_content_type"),
        text("api_target"),
    ],
};

static BREADCRUMB: Field = object(
    "",
    &Struct {
        name: "breadcrumb",
        other: Other::Refused,
        fields: &[
            time("timestamp"),
            text("type").max(128, 0).skipped(),
            text("category").max(128, 0),
            Field::new("level", Kind::Level),
            text("message").max(8192, 200),
            bag("data").bag(2048, 5).skipped(),
            Field::new("event_id", Kind::EventId),
            text("origin").skipped(),
        ],
    },
);

static EXCEPTION: Field = Field::new("", Kind::Special(super::exception::read));

/// An exception.
pub static EXCEPTION_FIELDS: Struct = Struct {
    name: "exception",
    other: Other::KeptWithNull,
    fields: &[
        text("type").max(256, 20),
        Field::new("value", Kind::AnyAsText).max(8192, 200),
        text("module").max(256, 20),
        object("stacktrace", &STACKTRACE),
        object("raw_stacktrace", &STACKTRACE),
        Field::new("thread_id", Kind::ThreadId),
        Field::new("mechanism", Kind::Special(super::mechanism::read)).skipped(),
    ],
};

/// How an exception was caught.
pub static MECHANISM: Struct = Struct {
    name: "exception mechanism",
    other: Other::Dropped,
    fields: &[
        text("type").max(128, 0).required().nonempty(),
        boolean("synthetic"),
        text("description").max(8192, 200),
        text("help_link").nonempty(),
        boolean("handled"),
        text("source").max(128, 0).nonempty().of(Chars::Without(" \t\r\n")),
        boolean("is_exception_group"),
        unsigned("exception_id"),
        unsigned("parent_id"),
        bag("data").bag(2048, 5).skipped(),
        object("meta", &MECHANISM_META).skipped(),
    ],
};

static MECHANISM_META: Struct = Struct {
    name: "mechanismmeta",
    other: Other::Dropped,
    fields: &[
        object("errno", &Struct { name: "cerror", other: Other::Dropped, fields: &[signed("number"), text("name").skipped()] }),
        object(
            "signal",
            &Struct {
                name: "posixsignal",
                other: Other::Dropped,
                fields: &[signed("number"), signed("code"), text("name").skipped(), text("code_name").skipped()],
            },
        ),
        object(
            "mach_exception",
            &Struct {
                name: "machexception",
                other: Other::Dropped,
                fields: &[signed("exception"), unsigned("code"), unsigned("subcode"), text("name").skipped()],
            },
        ),
        object("ns_error", &Struct { name: "nserror", other: Other::Dropped, fields: &[signed("code"), text("domain").skipped()] }),
    ],
};

/// A stack of frames.
pub static STACKTRACE: Struct = Struct {
    name: "rawstacktrace",
    other: Other::Dropped,
    fields: &[
        list("frames", &FRAME).required().nonempty(),
        Field::new("registers", Kind::Map(&REGISTER)),
        text("instruction_addr_adjustment"),
        text("lang").max(128, 0),
        boolean("snapshot"),
    ],
};

static REGISTER: Field = Field::new("", Kind::Register);

static FRAME: Field = object(
    "",
    &Struct {
        name: "frame",
        other: Other::Dropped,
        fields: &[
            text("function").max(512, 20).skipped(),
            text("raw_function").max(512, 20).skipped(),
            text("symbol").max(512, 0),
            text("module").skipped(),
            text("package").skipped(),
            text("filename").skipped(),
            text("abs_path").skipped(),
            unsigned("lineno"),
            unsigned("colno"),
            text("platform").skipped(),
            list("pre_context", &TEXT).skipped(),
            text("context_line"),
            list("post_context", &TEXT).skipped(),
            boolean("in_app"),
            Field::new("vars", Kind::Vars).bag(2048, 5),
            object("data", &FRAME_DATA).skipped(),
            address("instruction_addr"),
            text("addr_mode").skipped(),
            address("symbol_addr"),
            address("image_addr"),
            address("function_id"),
            boolean("stack_start"),
            text("trust").max(128, 0),
            text("lang").max(128, 0),
            object("lock", &LOCK),
        ],
    },
);

static FRAME_DATA: Struct = Struct {
    name: "framedata",
    other: Other::Dropped,
    fields: &[
        text("sourcemap").max(256, 40).skipped(),
        text("orig_function").max(256, 20),
        text("orig_filename").max(256, 40),
        unsigned("orig_lineno"),
        unsigned("orig_colno"),
        signed("orig_in_app"),
    ],
};

static LOCK: Struct = Struct {
    name: "lockreason",
    other: Other::Dropped,
    fields: &[
        Field::new("type", Kind::LockType).required(),
        text("address").skipped(),
        text("package_name").skipped(),
        text("class_name").skipped(),
        Field::new("thread_id", Kind::ThreadId).skipped(),
    ],
};

static THREAD: Field = object(
    "",
    &Struct {
        name: "thread",
        other: Other::Dropped,
        fields: &[
            Field::new("id", Kind::ThreadId),
            text("name").max(1024, 100),
            object("stacktrace", &STACKTRACE),
            object("raw_stacktrace", &STACKTRACE),
            boolean("crashed"),
            boolean("current"),
            boolean("main"),
            text("state").skipped(),
            Field::new("held_locks", Kind::Map(&HELD_LOCK)),
        ],
    },
);

static HELD_LOCK: Field = object("", &LOCK);

static TEMPLATE: Struct = Struct {
    name: "templateinfo",
    other: Other::Dropped,
    fields: &[
        text("filename").max(128, 20),
        text("abs_path").max(256, 40),
        unsigned("lineno"),
        unsigned("colno"),
        list("pre_context", &TEXT),
        text("context_line"),
        list("post_context", &TEXT),
    ],
};

static DEBUG_META: Struct =
    Struct { name: "debugmeta", other: Other::Dropped, fields: &[object("sdk_info", &SYSTEM_SDK).skipped(), list("images", &IMAGE).skipped()] };

static SYSTEM_SDK: Struct = Struct {
    name: "systemsdkinfo",
    other: Other::Dropped,
    fields: &[text("sdk_name").skipped(), unsigned("version_major"), unsigned("version_minor"), unsigned("version_patchlevel")],
};

static IMAGE: Field = Field::new("", Kind::Special(image::read));

static SDK: Struct = Struct {
    name: "clientsdkinfo",
    other: Other::Dropped,
    fields: &[
        text("name").max(256, 20).required(),
        text("version").max(256, 20).required(),
        list("integrations", &TEXT).skipped(),
        list("features", &TEXT).skipped(),
        list("packages", &PACKAGE).skipped(),
        Field::new("client_ip", Kind::Ip),
        object("settings", &SETTINGS).skipped(),
    ],
};

static PACKAGE: Field = object("", &Struct { name: "clientsdkpackage", other: Other::Dropped, fields: &[text("name"), text("version")] });
static SETTINGS: Struct =
    Struct { name: "clientsdksettings", other: Other::Dropped, fields: &[Field::new("infer_ip", Kind::Special(super::user::read_infer_ip))] };
static INGEST_PATH: Field =
    object("", &Struct { name: "relayinfo", other: Other::Dropped, fields: &[text("version").max(256, 20), text("public_key").max(256, 20)] });
static ERROR: Field =
    object("", &Struct { name: "eventprocessingerror", other: Other::Dropped, fields: &[text("type").required(), text("name"), any("value")] });

static CSP: Struct = Struct {
    name: "csp",
    other: Other::Dropped,
    fields: &[
        text("effective_directive"),
        text("blocked_uri"),
        text("document_uri"),
        text("original_policy"),
        text("referrer"),
        unsigned("status_code"),
        text("violated_directive"),
        text("source_file"),
        unsigned("line_number"),
        unsigned("column_number"),
        text("script_sample"),
        text("disposition"),
    ],
};

/// A value with its unit.
pub static MEASUREMENT: Field = Field::new("", Kind::Special(super::measurement::read));
static BREAKDOWN: Field = Field::new("", Kind::Map(&MEASUREMENT));

static METRICS: Struct = Struct {
    name: "metrics",
    other: Other::Dropped,
    fields: &[
        unsigned("bytes.ingested.event"),
        unsigned("bytes.ingested.event.minidump"),
        unsigned("bytes.ingested.event.applecrashreport"),
        unsigned("bytes.ingested.event.attachment"),
        unsigned("bytes.stored.event"),
        unsigned("bytes.stored.event.minidump"),
        unsigned("bytes.stored.event.applecrashreport"),
        unsigned("bytes.stored.event.attachment"),
        unsigned("ms.processing.symbolicator"),
        unsigned("ms.processing.proguard"),
        unsigned("ms.processing.sourcemaps"),
        boolean("flag.processing.error"),
        boolean("flag.processing.fatal"),
    ],
};

static SPAN: Field = object("", &SPAN_FIELDS);

/// A span of a transaction.
pub static SPAN_FIELDS: Struct = Struct {
    name: "span",
    other: Other::Dropped,
    fields: &[
        time("timestamp"),
        time("start_timestamp"),
        number("exclusive_time"),
        text("op").max(128, 0),
        Field::new("span_id", Kind::SpanId).required(),
        Field::new("parent_span_id", Kind::SpanId),
        Field::new("trace_id", Kind::TraceId).required(),
        Field::new("segment_id", Kind::SpanId),
        boolean("is_segment"),
        boolean("is_remote"),
        Field::new("status", Kind::Status),
        text("description"),
        Field::new("tags", Kind::Map(&SPAN_TAG)),
        text("origin").max(128, 0).of(Chars::Word("_.")),
        Field::new("profile_id", Kind::EventId),
        object("data", &SPAN_DATA),
        list("links", &SPAN_LINK),
        Field::new("sentry_tags", Kind::Map(&TEXT)),
        time("received"),
        Field::new("measurements", Kind::Map(&MEASUREMENT)).skipped(),
        text("platform").skipped(),
        boolean("was_transaction"),
        text("kind"),
        boolean("_performance_issues_spans"),
    ],
};

static SPAN_DATA: Struct = Struct { name: "spandata", other: Other::KeptWithNull, fields: &[] };
static SPAN_TAG: Field = Field::new("", Kind::Special(request::read_text_or_json));
static SPAN_LINK: Field = object(
    "",
    &Struct {
        name: "spanlink",
        other: Other::Kept,
        fields: &[Field::new("trace_id", Kind::TraceId).required(), Field::new("span_id", Kind::SpanId).required(), boolean("sampled"), bag("attributes")],
    },
);

/// The fields of contexts by type; a context of any other type has none.
pub fn context(kind: &str) -> &'static Struct {
    match kind {
        "app" => &APP,
        "browser" => &BROWSER,
        "culture" => &CULTURE,
        "device" => &DEVICE,
        "feedback" => &FEEDBACK,
        "flags" => &FLAGS,
        "gpu" => &GPU,
        "memory_info" => &MEMORY,
        "os" => &OS,
        "otel" => &OTEL,
        "profile" => &PROFILE,
        "replay" => &REPLAY,
        "response" => &RESPONSE,
        "runtime" => &RUNTIME,
        "spring" => &SPRING,
        "threadpool_info" => &THREADPOOL,
        "trace" => &TRACE,
        "unity" => &UNITY,
        _ => &OTHER,
    }
}

const fn of_context(fields: &'static [Field]) -> Struct {
    Struct { name: "an object", other: Other::Kept, fields }
}

/// A field that is counted in Relay's limits, whatever its name.
const UNNAMED: Field = any("");
static OTHER: Struct = Struct { name: "an object", other: Other::KeptWithNull, fields: &[] };

static TRACE: Struct = of_context(&[
    Field::new("trace_id", Kind::TraceId).required(),
    Field::new("span_id", Kind::SpanId).required(),
    Field::new("parent_span_id", Kind::SpanId),
    text("op").max(128, 0),
    Field::new("status", Kind::Status),
    number("exclusive_time"),
    number("client_sample_rate"),
    text("origin").max(128, 0).of(Chars::Word("_.")),
    boolean("sampled"),
    object("data", &SPAN_DATA),
    list("links", &SPAN_LINK),
]);

static OS: Struct = of_context(&[
    text("os"),
    text("name"),
    text("version"),
    primitive("build"),
    text("kernel_version"),
    boolean("rooted"),
    text("distribution_name"),
    text("distribution_version"),
    text("distribution_pretty_name"),
    text("raw_description"),
]);

static BROWSER: Struct = of_context(&[text("browser"), text("name"), text("version")]);
static RUNTIME: Struct = of_context(&[text("runtime"), text("name"), text("version"), primitive("build"), text("raw_description")]);

static DEVICE: Struct = of_context(&[
    text("name"),
    text("family"),
    text("model"),
    text("model_id"),
    text("arch"),
    number("battery_level"),
    text("orientation"),
    text("manufacturer"),
    text("brand"),
    text("screen_resolution"),
    unsigned("screen_height_pixels"),
    unsigned("screen_width_pixels"),
    number("screen_density"),
    unsigned("screen_dpi"),
    boolean("online"),
    boolean("charging"),
    boolean("low_memory"),
    boolean("simulator"),
    unsigned("memory_size"),
    unsigned("free_memory"),
    unsigned("usable_memory"),
    unsigned("storage_size"),
    unsigned("free_storage"),
    unsigned("external_storage_size"),
    unsigned("external_free_storage"),
    text("boot_time"),
    text("timezone"),
    text("locale"),
    unsigned("processor_count"),
    text("cpu_description"),
    unsigned("processor_frequency"),
    text("device_type"),
    text("battery_status"),
    text("device_unique_identifier"),
    boolean("supports_vibration"),
    boolean("supports_accelerometer"),
    boolean("supports_gyroscope"),
    boolean("supports_audio"),
    boolean("supports_location_service"),
    Field::new("uuid", Kind::Uuid),
]);

static APP: Struct = of_context(&[
    text("app_start_time"),
    text("device_app_hash"),
    text("build_type"),
    text("app_identifier"),
    text("app_name"),
    text("app_version"),
    primitive("app_build"),
    unsigned("app_memory"),
    boolean("in_foreground"),
    list("view_names", &TEXT),
]);

static GPU: Struct = of_context(&[
    text("name"),
    text("version"),
    any("id"),
    text("vendor_id"),
    text("vendor_name"),
    unsigned("memory_size"),
    UNNAMED,
    text("api_type"),
    boolean("multi_threaded_rendering"),
    text("npot_support"),
    unsigned("max_texture_size"),
    text("graphics_shader_level"),
    boolean("supports_draw_call_instancing"),
    boolean("supports_ray_tracing"),
    boolean("supports_compute_shaders"),
    boolean("supports_geometry_shaders"),
]);

static RESPONSE: Struct = of_context(&[
    Field::new("cookies", Kind::Special(request::read_cookies)).bag(2048, 0),
    Field::new("headers", Kind::Special(request::read_headers)).bag(8192, 0).skipped(),
    unsigned("status_code"),
    unsigned("body_size"),
    any("data").bag(8192, 7),
    text("inferred_content_type"),
]);

static REPLAY: Struct = of_context(&[Field::new("replay_id", Kind::EventId)]);
static PROFILE: Struct = Struct {
    name: "an object",
    other: Other::Dropped,
    fields: &[Field::new("profile_id", Kind::EventId), Field::new("profiler_id", Kind::EventId), any("type")],
};
static FLAGS: Struct = of_context(&[list("values", &FLAG)]);
static FLAG: Field = object(
    "",
    &Struct {
        name: "flagscontextitem",
        other: Other::Kept,
        fields: &[text("flag").max(200, 0).of(Chars::Word("_.:-")), any("result").max(200, 0).of(Chars::Without("\n"))],
    },
);
static CULTURE: Struct = of_context(&[text("calendar"), text("display_name"), text("locale"), boolean("is_24_hour_format"), text("timezone")]);
static OTEL: Struct = of_context(&[bag("attributes"), bag("resource")]);
static FEEDBACK: Struct = of_context(&[text("message"), text("contact_email")]);
static SPRING: Struct = of_context(&[list("active_profiles", &TEXT)]);
static UNITY: Struct =
    of_context(&[text("copy_texture_support"), text("editor_version"), text("install_mode"), text("rendering_threading_mode"), text("target_frame_rate")]);

static MEMORY: Struct = of_context(&[
    unsigned("allocated_bytes"),
    unsigned("fragmented_bytes"),
    unsigned("heap_size_bytes"),
    unsigned("high_memory_load_threshold_bytes"),
    unsigned("total_available_bytes"),
    unsigned("memory_load_bytes"),
    unsigned("total_committed_bytes"),
    unsigned("promoted_bytes"),
    unsigned("pinned_objects_count"),
    number("pause_time_percentage"),
    unsigned("index"),
    unsigned("finalization_pending_count"),
    boolean("compacted"),
    boolean("concurrent"),
    list("pause_durations", &PAUSE),
    UNNAMED,
]);
static PAUSE: Field = unsigned("");

static THREADPOOL: Struct = of_context(&[
    unsigned("min_worker_threads"),
    unsigned("min_completion_port_threads"),
    unsigned("max_worker_threads"),
    unsigned("max_completion_port_threads"),
    unsigned("available_worker_threads"),
    unsigned("available_completion_port_threads"),
]);
