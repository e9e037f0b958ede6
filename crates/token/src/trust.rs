//! Keys of others: of identity providers and of SPIFFE trust domains.
//!
//! A set is read once; keys that we do not speak are left out (RFC 7517 section 5), private ones refuse the
//! set. Each key has one algorithm, fixed when it is read: for an RSA key the one its JWK names, else RS256.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents,
};
use serde_json::{Map, Value};

use crate::digest::decode;
use crate::key::{member, refuse_private_members, require_signing_use};
use crate::{PublicKey, TokenRefusal, json};

/// A key with the one algorithm it may be used with.
#[derive(Clone)]
pub(crate) struct VerifyingKey {
    names: &'static [&'static str],
    parsed: ParsedPublicKey,
}

impl VerifyingKey {
    pub(crate) fn new(names: &'static [&'static str], parsed: ParsedPublicKey) -> Self {
        Self { names, parsed }
    }

    /// Whether `alg` names this key's algorithm.
    pub(crate) fn speaks(&self, alg: &str) -> bool {
        self.names.contains(&alg)
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    /// Reads any key type that identity providers and trust domains sign with.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>, wanted_use: &str) -> Result<Self, TokenRefusal> {
        refuse_private_members(jwk)?;
        require_signing_use(jwk, wanted_use)?;
        match (member(jwk, "kty")?, jwk.get("crv").and_then(Value::as_str)) {
            ("RSA", None) => rsa(jwk),
            ("EC", Some("P-384")) => p384(jwk),
            _ => {
                let mut bare = jwk.clone();
                bare.remove("use"); // judged above; the word differs between OIDC and SPIFFE
                Ok(PublicKey::from_jwk(&bare)?.verifying())
            }
        }
    }
}

/// The signature keys of one issuer or one trust domain, by key id.
#[derive(Clone, Default)]
pub struct IssuerKeys {
    keys: BTreeMap<String, VerifyingKey>,
}

impl IssuerKeys {
    /// Reads an identity provider's JWK set (`use` absent or `sig`). Keys without `kid` are left out.
    ///
    /// # Errors
    /// `token.malformed` or `key.malformed` for a set that cannot be read, `key.private` if it leaks a private
    /// key, `key.unsupported` if no key is usable or a key id stands twice.
    pub fn from_jwks(text: &str) -> Result<Self, TokenRefusal> {
        Self::read(text, "sig")
    }

    /// Reads a SPIFFE trust bundle: only keys with `use` = `jwt-svid` count (SPIFFE Trust Domain and Bundle,
    /// section 4.2.2).
    ///
    /// # Errors
    /// As [`IssuerKeys::from_jwks`].
    pub fn from_spiffe_bundle(text: &str) -> Result<Self, TokenRefusal> {
        Self::read(text, "jwt-svid")
    }

    /// The key with this id.
    pub(crate) fn find(&self, kid: Option<&str>) -> Result<&VerifyingKey, TokenRefusal> {
        let kid = kid.ok_or(TokenRefusal::Header("kid"))?;
        self.keys.get(kid).ok_or(TokenRefusal::UnknownKey)
    }

    fn read(text: &str, wanted_use: &str) -> Result<Self, TokenRefusal> {
        let set = json::object(text.as_bytes())?;
        let listed =
            set.get("keys").and_then(Value::as_array).ok_or(TokenRefusal::KeyMalformed("no keys"))?;
        let mut keys = BTreeMap::new();
        for key in listed.iter().filter_map(Value::as_object) {
            refuse_private_members(key)?;
            let Some(kid) = key.get("kid").and_then(Value::as_str) else { continue };
            if wanted_use == "jwt-svid" && !key.contains_key("use") {
                continue;
            }
            let Ok(parsed) = VerifyingKey::from_jwk(key, wanted_use) else { continue };
            if keys.insert(kid.to_owned(), parsed).is_some() {
                return Err(TokenRefusal::KeyMalformed("a key id stands twice"));
            }
        }
        if keys.is_empty() { Err(TokenRefusal::KeyUnsupported) } else { Ok(Self { keys }) }
    }
}

impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.keys()).finish()
    }
}

fn rsa(jwk: &Map<String, Value>) -> Result<VerifyingKey, TokenRefusal> {
    const MODULUS_BYTES_MIN: usize = 256;
    let n = decode(member(jwk, "n")?).ok_or(TokenRefusal::KeyMalformed("n"))?;
    let e = decode(member(jwk, "e")?).ok_or(TokenRefusal::KeyMalformed("e"))?;
    if n.len() < MODULUS_BYTES_MIN {
        return Err(TokenRefusal::KeyUnsupported);
    }
    if is_roca(&n) {
        return Err(TokenRefusal::KeyMalformed("a key made by a broken generator (CVE-2017-15361)"));
    }
    let (names, parameters) = rsa_algorithm(jwk.get("alg"))?;
    let parsed = RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters);
    Ok(VerifyingKey::new(names, parsed.map_err(|_| TokenRefusal::KeyMalformed("not an RSA key"))?))
}

/// Keys of one vendor's broken generator can be factored (CVE-2017-15361, "ROCA"). Their modulus is a power of
/// 65537 modulo every small prime; of sound keys about one in 2^27 is.
fn is_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 36] = [
        5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
        107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163,
    ];
    PRIMES.iter().all(|p| {
        let residue = modulus.iter().fold(0_u32, |rest, byte| (rest * 256 + u32::from(*byte)) % p);
        let powers = std::iter::successors(Some(1_u32), |power| Some(power * (65537 % p) % p));
        powers.take(*p as usize).any(|power| power == residue)
    })
}

fn rsa_algorithm(
    alg: Option<&Value>,
) -> Result<(&'static [&'static str], &'static RsaParameters), TokenRefusal> {
    match alg.map(Value::as_str) {
        None | Some(Some("RS256")) => Ok((&["RS256"], &RSA_PKCS1_2048_8192_SHA256)),
        Some(Some("RS384")) => Ok((&["RS384"], &RSA_PKCS1_2048_8192_SHA384)),
        Some(Some("RS512")) => Ok((&["RS512"], &RSA_PKCS1_2048_8192_SHA512)),
        Some(Some("PS256")) => Ok((&["PS256"], &RSA_PSS_2048_8192_SHA256)),
        Some(Some("PS384")) => Ok((&["PS384"], &RSA_PSS_2048_8192_SHA384)),
        Some(Some("PS512")) => Ok((&["PS512"], &RSA_PSS_2048_8192_SHA512)),
        _ => Err(TokenRefusal::KeyUnsupported),
    }
}

fn p384(jwk: &Map<String, Value>) -> Result<VerifyingKey, TokenRefusal> {
    if jwk.get("alg").is_some_and(|alg| alg != "ES384") {
        return Err(TokenRefusal::KeyUnsupported);
    }
    let mut point = vec![4_u8];
    for name in ["x", "y"] {
        let bytes = decode(member(jwk, name)?).ok_or(TokenRefusal::KeyMalformed(name))?;
        if bytes.len() != 48 {
            return Err(TokenRefusal::KeyMalformed(name));
        }
        point.extend(bytes);
    }
    let parsed = ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point);
    Ok(VerifyingKey::new(&["ES384"], parsed.map_err(|_| TokenRefusal::KeyMalformed("not a point"))?))
}
