//! The files of the console are all served, name nothing that is not there, load nothing from elsewhere, and those of others are
//! what their authors released.

use std::collections::BTreeSet;
use std::path::{Path as FilePath, PathBuf};

use super::*;

/// What others wrote: file, and SHA-256 as its registry's package has it.
const VENDORED: [(&str, &str); 3] = [
    (
        "vendor/htm-preact-3.1.1.js",
        "72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7",
    ),
    (
        "vendor/uPlot-1.6.32.css",
        "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    ),
    (
        "vendor/uPlot-1.6.32.js",
        "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    ),
];

fn folder() -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("src/console/assets")
}

fn files_below(folder: &FilePath, files: &mut BTreeSet<String>, prefix: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), files, &format!("{name}/"));
        } else {
            files.insert(name);
        }
    }
}

#[test]
fn every_file_is_served() {
    let mut files = BTreeSet::new();
    files_below(&folder(), &mut files, "");
    let listed: BTreeSet<_> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
    assert_eq!(files, listed);
}

#[test]
fn files_name_only_files_that_are_there_and_nothing_elsewhere() {
    let ours = ASSETS.iter().filter(|asset| !asset.path.starts_with("vendor/"));
    for asset in ours {
        let text = std::str::from_utf8(asset.bytes).unwrap();
        // The name of SVG's elements is an address that nobody asks.
        let text_without = text.replace("http://www.w3.org/2000/svg", "");
        for scheme in ["http://", "https://", "//cdn"] {
            assert!(!text_without.contains(scheme), "{} names {scheme}", asset.path);
        }
        let lower = text.to_ascii_lowercase();
        for maker in ["innerhtml", "outerhtml", "insertadjacenthtml"] {
            assert!(!lower.contains(maker), "{} makes elements from text", asset.path);
        }
        let folder = FilePath::new(asset.path).parent().unwrap();
        for named in text
            .split("from \"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            if !named.starts_with('.') {
                continue;
            }
            let mut path = PathBuf::from(folder);
            for part in named.split('/') {
                match part {
                    "." => {}
                    ".." => assert!(path.pop()),
                    part => path.push(part),
                }
            }
            let is_there = ASSETS.iter().any(|asset| FilePath::new(asset.path) == path);
            assert!(is_there, "{} names {named}", asset.path);
        }
    }
    let index = std::str::from_utf8(ASSETS.iter().find(|asset| asset.path == INDEX).unwrap().bytes).unwrap();
    for named in index
        .split("=\"console/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(ASSETS.iter().any(|asset| asset.path == named), "{named}");
    }
}

#[test]
fn what_others_wrote_is_as_they_released_it() {
    let vendored = ASSETS.iter().filter(|asset| asset.path.starts_with("vendor/"));
    let found: Vec<_> = vendored.map(|asset| (asset.path, sha256(asset.bytes))).collect();
    let expected = VENDORED.map(|(path, hash)| (path, hash.to_owned()));
    assert_eq!(found, expected);
}

/// By the program of that name: nothing else in the tree needs this hash.
fn sha256(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let output = std::process::Command::new("sha256sum").arg(file.path()).output();
    let output = output.expect("sha256sum is part of every Linux");
    String::from_utf8(output.stdout)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn a_file_comes_with_its_policy_and_only_once() {
    let first = answer(INDEX, &HeaderMap::new());
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(first.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(
        first.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap()
            .contains("script-src 'self';")
    );
    let mut asked = HeaderMap::new();
    asked.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
    assert_eq!(answer(INDEX, &asked).status(), StatusCode::NOT_MODIFIED);
    for path in ["", "gone.js", "../Cargo.toml", "js/../index.html", "js"] {
        assert_eq!(answer(path, &asked).status(), StatusCode::NOT_FOUND, "{path}");
    }
}
