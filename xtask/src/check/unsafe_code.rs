//! Only the named files may contain `unsafe`.

use anyhow::Result;

use super::exceptions::{Exception, applied};
use super::source::{self, Source};

const FILES: [Exception; 2] = [
    ("filter/plugin/src/abi.rs", "what Envoy calls"),
    ("filter/plugin/src/hostcalls.rs", "what Envoy is asked for"),
];

pub fn check(sources: &[Source]) -> Result<Vec<String>> {
    outside(sources, &FILES)
}

fn outside(sources: &[Source], files: &[Exception]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        if source::has_identifier(source.tokens()?, "unsafe") {
            found.push((
                source.name.clone(),
                format!("{}: `unsafe` is allowed only in the named files", source.name),
            ));
        }
    }
    Ok(applied(found, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_is_found_wherever_it_stands_and_not_in_words() {
        for (text, expected) in [
            ("fn f() { unsafe { g() } }", 1),
            ("#[unsafe(no_mangle)] fn f() {}", 1),
            ("macro_rules! m { () => { unsafe impl Send for X {} } }", 1),
            ("// unsafe\n#![forbid(unsafe_code)]\nfn unsafe_request() -> &'static str { \"unsafe\" }", 0),
        ] {
            assert_eq!(outside(&[Source::new("a.rs", text)], &[]).unwrap().len(), expected, "{text}");
        }
        let named = [Source::new("a.rs", "unsafe fn f() {}"), Source::new("b.rs", "fn f() {}")];
        assert_eq!(outside(&named, &[("a.rs", "why")]).unwrap(), [""; 0]);
        assert_eq!(outside(&named, &[("a.rs", "why"), ("b.rs", "was so")]).unwrap().len(), 1);
    }
}
