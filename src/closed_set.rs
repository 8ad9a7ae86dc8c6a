//! Enums with user-visible names: label values, error types, simulator directives. The doc comment of a variant is its
//! description in `tidegate reference`.

/// Defines the enum, the list of its variants, and their names and descriptions.
macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $about:literal])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $about])* $variant),+ }

        impl $name {
            /// All variants, by discriminant.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The user-visible name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The description, with the white space of a doc comment.
            #[allow(dead_code, reason = "sets of a dialect alone are not in the reference")]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($about),*)),+ }
            }
        }
    };
}
pub(crate) use closed_set;
