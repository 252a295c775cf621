//! Tenzor beside its peers.
