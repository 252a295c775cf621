//! Configuration, statistics and usage survive a round trip; what a file leaves out has its default.

use tenzor_memory::{ArenaUsage, ComputeArena, PoolConfig, Stats, TensorAllocator};

#[test]
fn round_trips() {
    let config = PoolConfig::default().with_limit(Some(1 << 30)).with_classes_per_bucket(4);
    let alloc = TensorAllocator::with_config(config);
    let _kept = alloc.alloc::<f32>(1000).expect("memory");
    drop(alloc.alloc::<f64>(10));
    let arena = ComputeArena::new();
    let _used = arena.alloc::<u8>(100).expect("memory");

    let text = serde_json::to_string(&(alloc.stats(), arena.usage(), &config)).expect("serialises");
    let back: (Stats, ArenaUsage, PoolConfig) = serde_json::from_str(&text).expect("deserialises");
    assert_eq!(back, (alloc.stats(), arena.usage(), config));
    assert_eq!(alloc.stats().buckets.len(), 2);
}

#[test]
fn a_configuration_may_be_partial() {
    let config: PoolConfig = serde_json::from_str(r#"{ "max_pool_size": 1000 }"#).expect("deserialises");
    assert_eq!(config, PoolConfig::default().with_max_pool_size(1000));
}

#[test]
fn figures_that_make_no_sense_are_shown_all_the_same() {
    let text = r#"{ "pool_hits": 18446744073709551615, "pool_misses": 1, "deallocations": 7 }"#;
    let stats: Stats = serde_json::from_str(text).expect("deserialises");
    assert!(stats.pool_hit_rate() > 0.99 && stats.to_string().contains("100.0 % hits"));
}
