//! Configuration, statistics and usage survive a round trip; what a file leaves out has its default.

use tenzor_memory::{ArenaUsage, ComputeArena, PoolConfig, ScopeStats, Stats, TensorAllocator};

#[test]
fn round_trips() {
    let config = PoolConfig::default().with_limit(Some(1 << 30)).with_classes_per_bucket(4);
    let alloc = TensorAllocator::with_config(config);
    let _kept = alloc.alloc::<f32>(1000).expect("memory");
    drop(alloc.alloc::<f64>(10));
    let arena = ComputeArena::new();
    let _used = arena.alloc::<u8>(100).expect("memory");

    let scope = alloc.scope("layer");
    drop(scope.alloc::<f64>(10));

    let text = serde_json::to_string(&(alloc.stats(), arena.usage(), &config, scope.stats())).expect("serialises");
    let back: (Stats, ArenaUsage, PoolConfig, ScopeStats) = serde_json::from_str(&text).expect("deserialises");
    assert_eq!(back, (alloc.stats(), arena.usage(), config, scope.stats()));
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
    let scope: ScopeStats = serde_json::from_str(text).expect("deserialises");
    assert!(scope.to_string().contains("100.0 % hits"));
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn a_footprint_survives_and_is_shown_whatever_it_says() {
    use tenzor_memory::{Footprint, Pages};

    let footprint = Pages.footprint();
    let text = serde_json::to_string(&footprint).expect("serialises");
    assert_eq!(serde_json::from_str::<Footprint>(&text).expect("deserialises"), footprint);
    let text = r#"{ "in_use_bytes": 18446744073709551615, "untouched_bytes": -9223372036854775808, "free_bytes": 9 }"#;
    let footprint: Footprint = serde_json::from_str(text).expect("deserialises");
    assert_eq!((footprint.heap_bytes(), footprint.other_bytes()), (isize::MAX as usize, None));
    assert!(footprint.to_string().contains("resident memory of the heap"));
}
