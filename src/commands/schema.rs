//! JSON schema of the events, derived from their types, and the figures of a summary that `--fail-if` can test.
//!
//! Each command lists its events in `events.rs`. The schema is committed as `assets/schema/events.json`; a test
//! compares the two.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::output::{BareSummary, ErrorEvent};

/// Schemas of all events, by command and type.
pub(super) struct EventSchemas {
    generator: SchemaGenerator,
    references: Vec<Value>,
    events: Map<String, Value>,
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

impl EventSchemas {
    /// Derives the schema of all events from the lists of the commands.
    pub(super) fn collect(lists: &[fn(&mut Self)]) -> Value {
        let mut schemas = Self { generator: generator(), references: Vec::new(), events: Map::new() };
        schemas.add::<ErrorEvent<'_>>("any");
        schemas.add::<BareSummary<'_>>("any");
        lists.iter().for_each(|list_events| list_events(&mut schemas));
        schemas.finish()
    }

    /// Adds the events of an enum, or one event.
    pub(super) fn add<E: JsonSchema>(&mut self, command: &str) {
        for event in self.events_of::<E>() {
            self.insert(command, None, event);
        }
    }

    /// Adds the events of a client with several targets: each has a `target` and a `peer`.
    pub(super) fn add_with_target<E: JsonSchema>(&mut self, command: &str) {
        for mut event in self.events_of::<E>() {
            require(&mut event, "target", json!({"type": "string"}));
            require(&mut event, "peer", json!({"type": "string"}));
            self.insert(command, None, event);
        }
    }

    /// Adds a summary under a name of its own, for commands that have several.
    pub(super) fn add_summary<S: JsonSchema>(&mut self, command: &str, name: &str) {
        for event in self.events_of::<S>() {
            self.insert(command, Some(name), event);
        }
    }

    fn events_of<E: JsonSchema>(&mut self) -> Vec<Value> {
        let schema = E::json_schema(&mut self.generator).to_value();
        flatten_variants(schema, &E::schema_name(), self.generator.definitions())
    }

    fn insert(&mut self, command: &str, name: Option<&str>, mut event: Value) {
        let kind = event["properties"]["type"]["const"].as_str().unwrap_or_default();
        let (name, is_summary) = (name.unwrap_or(kind).to_owned(), kind == "summary");
        require(&mut event, "time", json!({"type": "string", "description": "RFC 3339, UTC, in microseconds."}));
        if is_summary {
            require(&mut event, "exit", json!({"type": "integer", "minimum": 0, "maximum": 255}));
        }
        self.references.push(json!({"$ref": format!("#/$defs/{command}/{name}")}));
        self.events.entry(command).or_insert_with(|| json!({}))[name] = event;
    }

    fn finish(mut self) -> Value {
        let mut definitions = Value::Object(self.events);
        add_definitions(&definitions.clone(), &self.generator.take_definitions(false), &mut definitions);
        let mut schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "urn:netlab:events",
            "title": "Events that netlab prints with --json",
            "description": "One object per line, type first. A failure prints an error event; the last line of a run \
                is its summary. Integers have their unit in the key, ratios are between 0 and 1, null means no data.",
            "type": "object",
            "required": ["type"],
            "anyOf": self.references,
            "$defs": definitions,
        });
        tidy(&mut schema);
        schema
    }
}

/// Adds a required property, as the envelope of an event does.
fn require(event: &mut Value, key: &str, property: Value) {
    event["properties"][key] = property;
    match event["required"].as_array_mut() {
        Some(keys) => keys.push(key.into()),
        None => event["required"] = json!([key]),
    }
}

/// Splits the schema of an enum into those of its variants, with referenced structs merged in. A struct is named by its
/// `#[serde(rename)]`, which is also the value of its tag; schemars leaves the tag of structs out.
fn flatten_variants(mut schema: Value, name: &str, definitions: &Map<String, Value>) -> Vec<Value> {
    let name =
        schema["$ref"].as_str().map_or(name, reference_name).trim_end_matches(|last: char| last.is_ascii_digit());
    let name = name.to_owned();
    schema = resolve(schema, definitions);
    for key in ["oneOf", "anyOf"] {
        if let Some(variants) = schema.get(key).and_then(Value::as_array) {
            return variants.iter().flat_map(|variant| flatten_variants(variant.clone(), &name, definitions)).collect();
        }
    }
    if schema["properties"].get("type").is_none() {
        let tag = json!({"properties": {"type": {"const": name}}});
        schema = with_properties(&tag, schema);
    }
    vec![schema]
}

/// Merges the definition that a schema refers to into the schema.
fn resolve(mut schema: Value, definitions: &Map<String, Value>) -> Value {
    let Some(reference) = schema.as_object_mut().and_then(|object| object.remove("$ref")) else { return schema };
    let mut target = resolve(definition(&reference, definitions).cloned().unwrap_or_default(), definitions);
    if let Some(description) = schema.get("description") {
        target["description"] = description.clone();
    }
    with_properties(&schema, target)
}

/// Adds the properties of `tag` in front of those of a schema.
fn with_properties(tag: &Value, mut schema: Value) -> Value {
    let properties = tag["properties"].as_object().cloned().unwrap_or_default();
    let mut required: Vec<Value> = properties.keys().map(|key| key.as_str().into()).collect();
    required.extend(schema["required"].as_array().into_iter().flatten().cloned());
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    properties.into_iter().for_each(|(key, property)| schema["properties"][key] = property);
    schema
}

fn reference_name(reference: &str) -> &str {
    reference.trim_start_matches("#/$defs/")
}

fn definition<'d>(reference: &Value, definitions: &'d Map<String, Value>) -> Option<&'d Value> {
    definitions.get(reference_name(reference.as_str()?))
}

/// Copies the definitions that `schema` refers to, directly or through others.
fn add_definitions(schema: &Value, definitions: &Map<String, Value>, into: &mut Value) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| add_definitions(item, definitions, into)),
        Value::Object(object) => {
            if let Some(found) = object.get("$ref").and_then(|reference| definition(reference, definitions)) {
                let name = reference_name(object["$ref"].as_str().unwrap_or_default());
                if into.get(name).is_none() {
                    // A name in lower case comes from `#[serde(rename)]`: an event within another.
                    let is_event = name.starts_with(|first: char| first.is_ascii_lowercase());
                    let tag = if is_event { json!({"properties": {"type": {"const": name}}}) } else { Value::Null };
                    into[name] = with_properties(&tag, found.clone());
                    add_definitions(found, definitions, into);
                }
            }
            object.values().for_each(|value| add_definitions(value, definitions, into));
        }
        _ => {}
    }
}

/// Forbids unknown keys, and makes plain text of doc comments.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(object) => {
            object.remove("format");
            if object.get("properties").is_some_and(Value::is_object) {
                object.insert("additionalProperties".into(), false.into());
            }
            if let Some(Value::String(description)) = object.get_mut("description") {
                *description = description.replace(['`', '[', ']'], "").replace('\n', " ");
            }
            object.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// Kind of a figure, which decides how its limit is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FigureKind {
    /// Between 0 and 1; the limit may be `5%` or `1/20`.
    Ratio,
    Number,
    Time,
}

/// Number in a summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figure {
    /// Keys that lead to the number, without their unit.
    pub name: String,
    /// The same keys as a JSON pointer.
    pub pointer: String,
    pub kind: FigureKind,
}

/// Lists the numbers of a summary.
pub(super) fn figures<S: JsonSchema>() -> Vec<Figure> {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.inline_subschemas = true;
    let schema = S::json_schema(&mut settings.into_generator()).to_value();
    let mut figures = Vec::new();
    collect_figures(&schema, "", "", &mut figures);
    figures
}

fn collect_figures(schema: &Value, name: &str, pointer: &str, figures: &mut Vec<Figure>) {
    // An optional struct is an object or null.
    for option in schema["anyOf"].as_array().into_iter().flatten() {
        collect_figures(option, name, pointer, figures);
    }
    let types = schema["type"].as_array().map_or(std::slice::from_ref(&schema["type"]), Vec::as_slice);
    if types.iter().any(|kind| kind == "integer" || kind == "number") {
        let kind = match schema["maximum"].as_f64() {
            _ if pointer.ends_with("_ns") => FigureKind::Time,
            Some(1.0) => FigureKind::Ratio,
            _ => FigureKind::Number,
        };
        figures.push(Figure { name: name.to_owned(), pointer: pointer.to_owned(), kind });
    }
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let dot = if name.is_empty() { "" } else { "." };
        let name = format!("{name}{dot}{}", key.trim_end_matches("_ns"));
        collect_figures(property, &name, &format!("{pointer}/{key}"), figures);
    }
}
