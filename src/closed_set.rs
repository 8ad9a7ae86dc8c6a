//! Enums whose variants are words that users meet: label values, types of errors, directives of the simulator. The doc
//! comment of a variant is its description in `tidegate reference`.

/// Makes the enum, the list of its variants, and the word and the description of each.
macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $about:literal])+ $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $about])+ $variant),+ }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that users meet.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What it means, with the white space of a doc comment.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($about),+)),+ }
            }
        }
    };
}
pub(crate) use closed_set;
