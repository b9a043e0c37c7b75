//! Places in a document, as RFC 6901 writes them.

/// `at` and one key more.
pub fn below(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}
