//! The configuration of a pool, as it is said on the command line.

use tenzor::memory::{Bytes, PoolConfig};

/// What is expected.
const FORM: &str = "expected default or adaptive, and SETTING=VALUE behind commas, or instead; settings are max_pool_size, max_buffers_per_bucket, classes_per_bucket, alignment, limit";

/// Reads a configuration: where it begins, and what is set then.
pub(crate) fn parse(text: &str) -> Result<PoolConfig, String> {
    let mut words = text.split(',').peekable();
    let mut config = match words.peek() {
        Some(&"default") => {
            words.next();
            PoolConfig::default()
        }
        Some(&"adaptive") => {
            words.next();
            PoolConfig::adaptive()
        }
        _ => PoolConfig::default(),
    };
    for word in words {
        let (setting, value) = word.split_once('=').ok_or(FORM)?;
        let bytes = || value.parse().map(|Bytes(bytes)| bytes).map_err(|error| format!("{setting}: {error}"));
        let number = || match value.bytes().all(|byte| byte.is_ascii_digit()) {
            true => value.parse().map_err(|error| format!("{setting}: {error}")),
            false => Err(format!("{setting}: expected a number in digits")),
        };
        config = match setting {
            "max_pool_size" => config.with_max_pool_size(bytes()?),
            "max_buffers_per_bucket" => config.with_max_buffers_per_bucket(number()?),
            "classes_per_bucket" => config.with_classes_per_bucket(number()?),
            "alignment" => config.with_alignment(bytes()?),
            "limit" => config.with_limit(Some(bytes()?)),
            _ => return Err(FORM.to_owned()),
        };
    }
    Ok(config)
}

// Helpers of tests are not recognised as tests.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_set_and_nothing_else() {
        assert_eq!(parse("default"), Ok(PoolConfig::default()));
        assert_eq!(parse("adaptive"), Ok(PoolConfig::adaptive()));
        let all = "max_pool_size=1M,max_buffers_per_bucket=3,classes_per_bucket=4,alignment=4K,limit=1G";
        let set = PoolConfig::default().with_max_pool_size(1 << 20).with_max_buffers_per_bucket(3);
        let set = set.with_classes_per_bucket(4).with_alignment(4096).with_limit(Some(1 << 30));
        assert_eq!(parse(all), Ok(set));
        assert_eq!(parse("adaptive,classes_per_bucket=2"), Ok(PoolConfig::adaptive().with_classes_per_bucket(2)));
        for wrong in
            ["", "adaptive,default", "limit", "limit=", "limit=x", "classes_per_bucket=-1", "size=1", "limit=1,"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse("classes_per_bucket=4K").unwrap_err(), "classes_per_bucket: expected a number in digits");
        assert!(parse("max_buffers_per_bucket=").is_err());
    }
}
