//! Sealing: what must come back in clear later, and must lie in the database until then.
//!
//! AES-256-GCM with a random nonce. Purpose and id are authenticated with it, so that a sealed value copied to
//! another row, or to a column of another purpose, does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use super::root_key::DerivedKeys;
use crate::domain::ids::{SigningKeyId, WebhookId};

/// The first byte of everything sealed, so that another cipher can follow without guessing at old values.
const FORMAT: u8 = 1;

/// Why a sealed value does not open. That the key was wrong and that the value was changed look alike, by design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the sealed value is of format {0}, and this version knows only {FORMAT}; was it written by a newer one?")]
    UnknownFormat(u8),
    #[error("the sealed value does not open: it was damaged, moved, or sealed under another root key")]
    DoesNotOpen,
}

/// What a sealed value is for. Part of what is authenticated; never rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    SigningKey,
    Outcome,
    Webhook,
}

impl Purpose {
    const fn byte(self) -> u8 {
        match self {
            Self::SigningKey => b'k',
            Self::Outcome => b'o',
            Self::Webhook => b'w',
        }
    }
}

impl DerivedKeys {
    /// Seals the private half of a signing key, for the database.
    #[must_use]
    pub fn seal_signing_key(&self, id: SigningKeyId, pkcs8: &[u8]) -> Vec<u8> {
        seal(&self.signing_key_seal, Purpose::SigningKey, id.0, pkcs8)
    }

    /// Opens what [`DerivedKeys::seal_signing_key`] sealed under the same id.
    pub fn open_signing_key(&self, id: SigningKeyId, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        open(&self.signing_key_seal, Purpose::SigningKey, id.0, sealed)
    }

    /// Seals the secret that a webhook's messages are signed with, for the database.
    #[must_use]
    pub fn seal_webhook_secret(&self, id: WebhookId, secret: &[u8]) -> Vec<u8> {
        seal(&self.webhook_seal, Purpose::Webhook, id.0, secret)
    }

    /// Opens what [`DerivedKeys::seal_webhook_secret`] sealed under the same id.
    pub fn open_webhook_secret(&self, id: WebhookId, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        open(&self.webhook_seal, Purpose::Webhook, id.0, sealed)
    }
}

/// Format, nonce, ciphertext, tag.
///
/// Random nonces are safe for 2^32 values under one key: far more signing keys than there will ever be, and each
/// outcome has a key of its own.
pub(super) fn seal(key: &[u8; 32], purpose: Purpose, id: u128, plaintext: &[u8]) -> Vec<u8> {
    let header = 1 + NONCE_LEN;
    let mut sealed = Vec::with_capacity(header + plaintext.len() + AES_256_GCM.tag_len());
    sealed.push(FORMAT);
    sealed.extend_from_slice(&[0; NONCE_LEN]);
    sealed.extend_from_slice(plaintext);
    let (nonce, tag) = cipher(key)
        .seal_in_place_separate_tag(Aad::from(bound(purpose, id)), &mut sealed[header..])
        .expect("AES-GCM fails only past 64 GiB or without a random generator, and neither service nor TLS runs then");
    sealed[1..header].copy_from_slice(nonce.as_ref());
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

pub(super) fn open(key: &[u8; 32], purpose: Purpose, id: u128, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (&format, rest) = sealed.split_first().ok_or(OpenError::DoesNotOpen)?;
    if format != FORMAT {
        return Err(OpenError::UnknownFormat(format));
    }
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::DoesNotOpen)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let length = cipher(key)
        .open_in_place(Nonce::from(nonce), Aad::from(bound(purpose, id)), &mut buffer)
        .map_err(|_| OpenError::DoesNotOpen)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

fn cipher(key: &[u8; 32]) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, key).expect("32 bytes are a key of AES-256")
}

/// What is authenticated but not sealed: of fixed width, so that no two pairs read alike.
fn bound(purpose: Purpose, id: u128) -> [u8; 18] {
    let mut bound = [0; 18];
    bound[0] = FORMAT;
    bound[1] = purpose.byte();
    bound[2..].copy_from_slice(&id.to_be_bytes());
    bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 32] = [9; 32];

    #[test]
    fn a_sealed_value_opens_only_where_it_was_put() {
        let sealed = seal(&KEY, Purpose::Outcome, 7, b"hush");
        assert_eq!(open(&KEY, Purpose::Outcome, 7, &sealed).unwrap().as_slice(), b"hush");
        let elsewhere = [
            open(&[8; 32], Purpose::Outcome, 7, &sealed),
            open(&KEY, Purpose::SigningKey, 7, &sealed),
            open(&KEY, Purpose::Outcome, 8, &sealed),
        ];
        for result in elsewhere {
            assert_eq!(result.unwrap_err(), OpenError::DoesNotOpen);
        }
    }

    #[test]
    fn the_same_value_seals_differently_each_time() {
        assert_ne!(seal(&KEY, Purpose::Outcome, 7, b"hush"), seal(&KEY, Purpose::Outcome, 7, b"hush"));
    }

    #[test]
    fn another_format_says_so() {
        let mut sealed = seal(&KEY, Purpose::Outcome, 7, b"hush");
        sealed[0] = 2;
        assert_eq!(open(&KEY, Purpose::Outcome, 7, &sealed).unwrap_err(), OpenError::UnknownFormat(2));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(plaintext: Vec<u8>, id: u128, at: prop::sample::Index, bit in 0_u32..8) {
            let mut sealed = seal(&KEY, Purpose::SigningKey, id, &plaintext);
            let opened = open(&KEY, Purpose::SigningKey, id, &sealed).unwrap();
            prop_assert_eq!(opened.as_slice(), &plaintext[..]);
            let at = at.index(sealed.len());
            sealed[at] ^= 1_u8 << bit;
            prop_assert!(open(&KEY, Purpose::SigningKey, id, &sealed).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            prop_assert!(open(&KEY, Purpose::Outcome, 7, &bytes).is_err());
            prop_assert!(open(&KEY, Purpose::Outcome, 7, &[&[FORMAT], &bytes[..]].concat()).is_err());
        }
    }
}
