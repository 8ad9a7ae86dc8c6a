//! A new body out of the old one and a few edits.
