//! JSON forms of times: how serde writes them, and their schema. Used as `#[serde(with = "Nanoseconds")]`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize as _, Serializer};

use super::{Moment, nanoseconds};

/// Whole nanoseconds, for keys that end in `_ns`.
pub(crate) struct Nanoseconds;

/// Whole nanoseconds, or `null` for no data.
pub(crate) struct OptionalNanoseconds;

/// RFC 3339 in UTC, with microseconds.
pub(crate) struct Rfc3339;

impl Nanoseconds {
    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(nanoseconds(*duration))
    }
}

impl OptionalNanoseconds {
    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(nanoseconds).serialize(serializer)
    }
}

impl Rfc3339 {
    pub(crate) fn serialize<S: Serializer>(moment: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.6}", moment.timestamp()))
    }
}

/// Gives each type the schema of the type that it is written as.
macro_rules! schema_of {
    ($($name:ty => $written:ty;)*) => {$(
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                <$written>::json_schema(generator)
            }
        }
    )*};
}

schema_of! {
    Nanoseconds => u64;
    OptionalNanoseconds => Option<u64>;
    Rfc3339 => String;
}
