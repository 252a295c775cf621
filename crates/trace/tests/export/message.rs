//! Messages by a schema: what is in them, and that there is nothing else.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

/// Schemas as others declare them.
fn schemas() -> &'static DescriptorPool {
    static SCHEMAS: OnceLock<DescriptorPool> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let folder = folder();
        let files = ["protos/perfetto/trace/trace.proto", "protos/third_party/pprof/profile.proto"];
        DescriptorPool::from_file_descriptor_set(protox::compile(files, [folder]).unwrap()).unwrap()
    })
}

/// Where the files lie of the crate that the schemas come with, which is a dependency that nothing is built of.
fn folder() -> PathBuf {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(["metadata", "--format-version", "1", "--manifest-path", manifest]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let paths = told.split("\"manifest_path\":\"").filter_map(|rest| rest.split('"').next());
    let found = paths.into_iter().find(|path| path.contains("perfetto_protos-"));
    let found = found.unwrap_or_else(|| panic!("no schemas: {}", String::from_utf8_lossy(&output.stderr)));
    PathBuf::from(found.replace("\\\\", "/")).parent().unwrap().to_owned()
}

/// A message of a type. All of its fields are declared, and those of what is in it.
pub(crate) fn decode(name: &str, bytes: &[u8]) -> DynamicMessage {
    let message = DynamicMessage::decode(schemas().get_message_by_name(name).unwrap(), bytes).unwrap();
    check(&message);
    message
}

fn check(message: &DynamicMessage) {
    assert_eq!(message.unknown_fields().count(), 0, "{}", message.descriptor().full_name());
    for (_, value) in message.fields() {
        match value {
            Value::Message(message) => check(message),
            Value::List(values) => values.iter().filter_map(Value::as_message).for_each(check),
            _ => {}
        }
    }
}

/// What is in a message's fields, by their names.
pub(crate) trait Fields {
    fn has(&self, field: &str) -> bool;
    fn number(&self, field: &str) -> u64;
    fn text(&self, field: &str) -> String;
    fn one(&self, field: &str) -> DynamicMessage;
    fn all(&self, field: &str) -> Vec<DynamicMessage>;
    fn numbers(&self, field: &str) -> Vec<u64>;
    fn texts(&self, field: &str) -> Vec<String>;
}

impl Fields for DynamicMessage {
    fn has(&self, field: &str) -> bool {
        self.has_field_by_name(field)
    }

    fn number(&self, field: &str) -> u64 {
        number(&self.get_field_by_name(field).unwrap())
    }

    fn text(&self, field: &str) -> String {
        self.get_field_by_name(field).unwrap().as_str().unwrap().to_owned()
    }

    fn one(&self, field: &str) -> DynamicMessage {
        self.get_field_by_name(field).unwrap().as_message().unwrap().clone()
    }

    fn all(&self, field: &str) -> Vec<DynamicMessage> {
        list(self, field, |value| value.as_message().unwrap().clone())
    }

    fn numbers(&self, field: &str) -> Vec<u64> {
        list(self, field, number)
    }

    fn texts(&self, field: &str) -> Vec<String> {
        list(self, field, |value| value.as_str().unwrap().to_owned())
    }
}

fn list<T>(message: &DynamicMessage, field: &str, one: impl FnMut(&Value) -> T) -> Vec<T> {
    message.get_field_by_name(field).unwrap().as_list().unwrap().iter().map(one).collect()
}

fn number(value: &Value) -> u64 {
    match *value {
        Value::I32(number) => number.try_into().unwrap(),
        Value::I64(number) => number.try_into().unwrap(),
        Value::U32(number) => number.into(),
        Value::U64(number) => number,
        Value::EnumNumber(number) => number.try_into().unwrap(),
        _ => panic!("{value:?} is no number"),
    }
}
