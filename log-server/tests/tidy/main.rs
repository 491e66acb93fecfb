//! The repository keeps its own rules: layers, files, names, documents.
//!
//! Each rule is a function from a tree of files to a list of problems. It is tried on the repository here, and beside the
//! rule on a small tree that breaks it, so that no rule passes because it looks at nothing.

mod documents;
mod files;
mod layers;
mod source;
mod tree;

use crate::tree::Tree;

/// No problems, or all of them at once.
fn check(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

#[test]
fn modules_of_log_core_point_downwards() {
    check(&layers::check_modules(&Tree::of_repository(), &layers::LOG_CORE));
}

#[test]
fn modules_of_log_client_point_downwards() {
    check(&layers::check_modules(
        &Tree::of_repository(),
        &layers::LOG_CLIENT,
    ));
}

#[test]
fn modules_of_log_server_point_downwards() {
    check(&layers::check_modules(
        &Tree::of_repository(),
        &layers::LOG_SERVER,
    ));
}

#[test]
fn packages_point_one_way() {
    check(&layers::check_packages(&Tree::of_repository()));
}

#[test]
fn sources_open_with_what_they_own() {
    check(&files::check_comments(&Tree::of_repository()));
}

#[test]
fn sources_are_not_long() {
    check(&files::check_lengths(&Tree::of_repository(), files::long_files()));
}

#[test]
fn names_say_what_a_file_owns() {
    check(&files::check_names(&Tree::of_repository()));
}

#[test]
fn what_stands_in_one_place_stands_there_alone() {
    check(&files::check_confinement(&Tree::of_repository()));
}

#[test]
fn only_what_is_known_lies_at_the_top() {
    check(&files::check_top(&Tree::of_repository()));
}

#[test]
fn no_word_tells_of_a_machine() {
    check(&documents::check_words(&Tree::of_repository()));
}

#[test]
fn links_and_names_of_files_lead_somewhere() {
    check(&documents::check_links(&Tree::of_repository()));
}

#[test]
fn the_code_map_is_the_tree() {
    check(&documents::check_code_map(&Tree::of_repository()));
}

#[test]
fn the_functions_of_the_architecture_exist() {
    check(&documents::check_functions(&Tree::of_repository()));
}
