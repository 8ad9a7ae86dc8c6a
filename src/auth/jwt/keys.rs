//! An issuer's keys: a JSON Web Key Set (RFC 7517), and the signatures that are checked with it.
//!
//! A key decides which algorithms it may be used with. An RSA key never checks an ECDSA signature, and no key is ever the
//! secret of an HMAC: there is none in [`Algorithm`].

use crate::closed_set::closed_set;
use crate::yaml::read::{Read, Reader, Schema};
use crate::yaml::tree::Node;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Most keys of a set that are used; further ones are left out.
pub const MAX_KEYS: usize = 64;
/// Bits of an RSA modulus that signatures are checked with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

closed_set! {
    /// A signature algorithm (RFC 7518, section 3.1; RFC 8037, section 3.1). All are asymmetric.
    Algorithm {
        /// RSA, PKCS #1 v1.5, SHA-256.
        Rs256 = "RS256",
        /// RSA, PKCS #1 v1.5, SHA-384.
        Rs384 = "RS384",
        /// RSA, PKCS #1 v1.5, SHA-512.
        Rs512 = "RS512",
        /// RSA, PSS, SHA-256.
        Ps256 = "PS256",
        /// RSA, PSS, SHA-384.
        Ps384 = "PS384",
        /// RSA, PSS, SHA-512.
        Ps512 = "PS512",
        /// ECDSA, P-256, SHA-256.
        Es256 = "ES256",
        /// ECDSA, P-384, SHA-384.
        Es384 = "ES384",
        /// EdDSA, Ed25519.
        EdDsa = "EdDSA",
    }
}

impl Algorithm {
    /// The algorithm of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }
}

impl Read for Algorithm {
    fn read(node: &Node, cx: &mut Reader<'_>) -> Option<Self> {
        let text = cx.text(node, "the name of an algorithm")?;
        let symmetric = ["HS256", "HS384", "HS512"].iter().any(|name| name.eq_ignore_ascii_case(text.trim()));
        let why = if symmetric {
            "an asymmetric algorithm: whoever can verify its tokens could also issue them"
        } else if text.trim().eq_ignore_ascii_case("none") {
            "a signature algorithm: anyone could issue such a token"
        } else {
            return cx.word(node, "one of", Self::ALL.iter().map(|algorithm| (algorithm.name(), *algorithm)));
        };
        cx.wrong(node, &format!("{why}; use what the issuer signs with, like RS256 or ES256"));
        None
    }

    fn schema() -> Schema {
        serde_json::json!({ "type": "string", "enum": Self::ALL.iter().map(|algorithm| algorithm.name()).collect::<Vec<_>>() })
    }
}

/// A public key, by its type.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point (SEC 1, section 2.3.3).
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    /// RFC 8032, section 5.1.5.
    Ed25519(Vec<u8>),
}

/// A key that checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    id: Option<Box<str>>,
    /// The only algorithm that it may be used with, where the set names one.
    algorithm: Option<Algorithm>,
    material: Material,
}

impl Key {
    /// How it checks a signature of this algorithm; `None` where it may not be used with it.
    fn check(&self, algorithm: Algorithm) -> Option<Check<'_>> {
        if self.algorithm.is_some_and(|own| own != algorithm) {
            return None;
        }
        let rsa = |parameters| match &self.material {
            Material::Rsa { n, e } => Some(Check::Rsa(RsaPublicKeyComponents { n: n.as_slice(), e: e.as_slice() }, parameters)),
            _ => None,
        };
        match (algorithm, &self.material) {
            (Algorithm::Rs256, _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            (Algorithm::Rs384, _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            (Algorithm::Rs512, _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            (Algorithm::Ps256, _) => rsa(&signature::RSA_PSS_2048_8192_SHA256),
            (Algorithm::Ps384, _) => rsa(&signature::RSA_PSS_2048_8192_SHA384),
            (Algorithm::Ps512, _) => rsa(&signature::RSA_PSS_2048_8192_SHA512),
            (Algorithm::Es256, Material::P256(point)) => Some(Check::Point(point, &ECDSA_P256_SHA256_FIXED)),
            (Algorithm::Es384, Material::P384(point)) => Some(Check::Point(point, &ECDSA_P384_SHA384_FIXED)),
            (Algorithm::EdDsa, Material::Ed25519(point)) => Some(Check::Point(point, &ED25519)),
            _ => None,
        }
    }
}

/// A key with an algorithm that it may be used with.
#[derive(Debug)]
pub enum Check<'k> {
    /// An RSA key.
    Rsa(RsaPublicKeyComponents<&'k [u8]>, &'static RsaParameters),
    /// A point on a curve.
    Point(&'k [u8], &'static dyn VerificationAlgorithm),
}

impl Check<'_> {
    /// Whether this is the key's signature of the message. RSA of 2048 bits takes about 30 microseconds, P-256 and Ed25519 about 80.
    pub fn is_valid(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key, parameters) => key.verify(parameters, message, signature).is_ok(),
            Self::Point(point, algorithm) => UnparsedPublicKey::new(*algorithm, point).verify(message, signature).is_ok(),
        }
    }
}

/// Why a set has no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// None of this id: the set may be too old.
    Unknown,
    /// The key of this id may not be used with the token's algorithm.
    Unfit,
    /// The token names no key, and several would do.
    Ambiguous,
}

/// The keys of an issuer; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet(Arc<[Key]>);

/// A set's keys as they are written.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

/// RFC 7517, section 4; RFC 7518, section 6.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<Box<str>>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys of other types and for other uses are left out: "Implementations SHOULD ignore JWKs within a JWK Set
    /// that use "kty" (key type) values that are not understood" (RFC 7517, section 5).
    ///
    /// # Errors
    /// When it is no set, or has no key that checks signatures.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let document: Document<'_> = serde_json::from_slice(text).map_err(|_| "is no JSON Web Key Set: an object with the list `keys`")?;
        let keys: Vec<Key> = document.keys.iter().filter_map(|key| read(key.get())).take(MAX_KEYS).collect();
        if keys.is_empty() {
            return Err("has no key that signatures can be checked with (RSA of 2048 bits or more, P-256, P-384, Ed25519)");
        }
        Ok(Self(keys.into()))
    }

    /// How many keys it has.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The key that a token names, for the token's algorithm. "When there are multiple keys in the referenced JWK Set document, a
    /// kid value MUST be provided" (OpenID Connect Core, section 10.1).
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Check<'_>, NoKey> {
        let mut of_id = self.0.iter().filter(|key| id.is_none() || key.id.as_deref() == id).peekable();
        if of_id.peek().is_none() {
            return Err(NoKey::Unknown);
        }
        let mut checks = of_id.filter_map(|key| key.check(algorithm));
        match (checks.next(), checks.next()) {
            (None, _) => Err(NoKey::Unfit),
            (Some(_), Some(_)) if id.is_none() => Err(NoKey::Ambiguous),
            (Some(check), _) => Ok(check),
        }
    }
}

/// A key that checks signatures; `None` for any other.
fn read(json: &str) -> Option<Key> {
    let jwk: Jwk = serde_json::from_str(json).ok()?;
    let bytes = |value: &Option<String>| URL_SAFE_NO_PAD.decode(value.as_deref()?).ok();
    if jwk.usage.is_some_and(|usage| usage != "sig") || jwk.key_ops.is_some_and(|all| !all.iter().any(|one| one == "verify")) {
        return None;
    }
    let algorithm = match &jwk.alg {
        Some(name) => Some(Algorithm::of(name)?),
        None => None,
    };
    let point = |size: usize| {
        let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
        (x.len() == size && y.len() == size).then(|| [&[4], &*x, &*y].concat())
    };
    let material = match (&*jwk.kty, jwk.crv.as_deref()) {
        ("RSA", _) => {
            let integer = |value| bytes(value).map(|bytes| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>());
            let (n, e) = (integer(&jwk.n)?, integer(&jwk.e)?);
            let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
            RSA_BITS.contains(&bits).then_some(Material::Rsa { n, e })?
        }
        ("EC", Some("P-256")) => Material::P256(point(32)?),
        ("EC", Some("P-384")) => Material::P384(point(48)?),
        ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(&jwk.x).filter(|x| x.len() == 32)?),
        _ => return None,
    };
    Some(Key { id: jwk.kid, algorithm, material })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rsa(more: &str, size: usize) -> String {
        let n = URL_SAFE_NO_PAD.encode([&[0, 0, 0x80][..], &vec![1; size - 1]].concat());
        format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"{more}}}"#)
    }

    fn ec(crv: &str, size: usize, more: &str) -> String {
        let x = URL_SAFE_NO_PAD.encode(vec![1; size]);
        format!(r#"{{"kty":"EC","crv":"{crv}","x":"{x}","y":"{x}"{more}}}"#)
    }

    fn set(keys: &[String]) -> Result<KeySet, &'static str> {
        KeySet::parse(format!(r#"{{"keys":[{}],"more":1}}"#, keys.join(",")).as_bytes())
    }

    #[test]
    fn only_keys_that_check_signatures_are_read() {
        let fine = [
            rsa("", 256),
            rsa(r#","use":"sig","alg":"PS512","kid":"a","x5c":["junk"],"d":"never looked at""#, 512),
            rsa(r#","key_ops":["sign","verify"]"#, 1024),
            ec("P-256", 32, ""),
            ec("P-384", 48, ""),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, URL_SAFE_NO_PAD.encode([7; 32])),
        ];
        assert_eq!(set(&fine).unwrap().count(), fine.len());
        for bad in [
            rsa("", 255),
            rsa("", 1025),
            rsa(r#","use":"enc""#, 256),
            rsa(r#","alg":"RSA-OAEP""#, 256),
            rsa(r#","alg":"HS256""#, 256),
            rsa(r#","key_ops":["encrypt"]"#, 256),
            ec("P-256", 31, ""),
            ec("P-384", 32, ""),
            ec("P-521", 66, ""),
            ec("secp256k1", 32, ""),
            r#"{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}"#.to_owned(),
            r#"{"kty":"RSA","n":"%%%","e":"AQAB"}"#.to_owned(),
            r#"{"kty":"RSA","n":"AAAA","e":"AQAB"}"#.to_owned(),
            r#"{"kty":"RSA","e":"AQAB"}"#.to_owned(),
            r#"{"kty":1}"#.to_owned(),
            "[]".to_owned(),
        ] {
            assert_eq!(
                set(std::slice::from_ref(&bad)).unwrap_err().split(" (").next(),
                Some("has no key that signatures can be checked with"),
                "{bad}"
            );
            assert_eq!(set(&[bad.clone(), ec("P-256", 32, "")]).unwrap().count(), 1, "{bad}");
        }
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}x"#] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(set(&vec![rsa("", 256); MAX_KEYS + 9]).unwrap().count(), MAX_KEYS);
    }

    #[test]
    fn a_key_is_used_with_the_algorithms_of_its_type_and_with_its_own() {
        let fit = |key: String| {
            let set = set(&[key]).unwrap();
            Algorithm::ALL.iter().filter(|algorithm| set.find(None, **algorithm).is_ok()).map(|a| a.name()).collect::<Vec<_>>()
        };
        assert_eq!(fit(rsa("", 256)), ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]);
        assert_eq!(fit(rsa(r#","alg":"RS256""#, 256)), ["RS256"]);
        assert_eq!((fit(ec("P-256", 32, "")), fit(ec("P-384", 48, ""))), (vec!["ES256"], vec!["ES384"]));
        assert!(fit(ec("P-256", 32, r#","alg":"ES384""#)).is_empty());
    }

    #[test]
    fn a_key_is_found_by_its_id_and_without_one_only_where_there_is_no_choice() {
        let keys = set(&[rsa(r#","kid":"a""#, 256), rsa(r#","kid":"b""#, 256), ec("P-256", 32, r#","kid":"b""#)]).unwrap();
        let find = |id, algorithm| keys.find(id, algorithm).err();
        assert_eq!((find(Some("a"), Algorithm::Rs256), find(Some("b"), Algorithm::Es256)), (None, None));
        assert_eq!(find(Some("a"), Algorithm::Es256), Some(NoKey::Unfit));
        assert_eq!(find(Some("../../a"), Algorithm::Rs256), Some(NoKey::Unknown));
        assert_eq!(find(None, Algorithm::Rs256), Some(NoKey::Ambiguous));
        assert_eq!((find(None, Algorithm::Es256), find(None, Algorithm::EdDsa)), (None, Some(NoKey::Unfit)));
    }
}
