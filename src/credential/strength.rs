//! How good a secret must be that the caller chose.
//!
//! Our own keys are random. A static secret or an enrollment secret may be anything, and is presented to an endpoint
//! that anyone can reach; so it must be as hard to guess as a random one, as far as can be told. The estimate is
//! zxcvbn's: it knows words, keyboard runs, dates, sequences and repetition.
//!
//! An estimate takes 1 ms of one core, at the worst 3. Call this where secrets are created, never where they are
//! checked.

/// 44 characters of base64url hold 256 bits and a little.
pub const STATIC_SECRET_CHARS_MIN: usize = 44;
/// As long as the longest shared secret that common secret stores make.
pub const CHOSEN_SECRET_CHARS_MAX: usize = 512;
/// 32 hexadecimal digits hold 128 bits.
pub const ENROLLMENT_SECRET_CHARS_MIN: usize = 32;

/// As much of a secret as is judged; what follows cannot make it worse. The estimate's time grows with the square of
/// the length and more.
const JUDGED_CHARS_MAX: usize = 64;

/// A text is estimated in pieces, and the orders of magnitude are added. The estimate of one text ends at 2^64
/// guesses, which any sentence reaches. Past 20 matches in one text zxcvbn 3.1.1 also overflows a factorial: a panic
/// where overflow is checked, and a wrong estimate where it is not.
const PIECE_CHARS: usize = 16;

/// Decades of guesses that the pieces of a static secret must add up to. Measured, least of 20,000: random
/// base64url 39.8, random hexadecimal 35.9 (both of 44 characters). Lists of common words reach 25, keyboard runs 17.
const STATIC_SECRET_DECADES_MIN: f64 = 32.0;

/// The same for an enrollment secret. Measured, least of 20,000: 32 random hexadecimal digits 26.0; words for
/// what the secret is used for, run together, 21.9.
const ENROLLMENT_SECRET_DECADES_MIN: f64 = 22.0;

/// Which rule a chosen secret breaks, and what to do. Never says anything of the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    #[error("the secret has fewer than {least} characters; make one with: openssl rand -hex 32")]
    TooShort { least: usize },
    #[error("the secret has more than {CHOSEN_SECRET_CHARS_MAX} characters; make one with: openssl rand -hex 32")]
    TooLong,
    #[error("a static secret holds only ASCII letters, digits, `-` and `_`; make one with: openssl rand -hex 32")]
    StaticSecretCharacter,
    #[error("an enrollment secret holds only printable ASCII without spaces; make one with: openssl rand -hex 32")]
    EnrollmentSecretCharacter,
    #[error("the secret is built of words, runs, dates or repetitions; make a random one with: openssl rand -hex 32")]
    Guessable,
}

/// Checks a static secret: a key value that the caller chose.
pub fn check_static_secret(secret: &str) -> Result<(), Weakness> {
    check_static_secret_form(secret)?;
    check_guesses(secret, STATIC_SECRET_DECADES_MIN)
}

/// What of it can be checked in no time.
pub fn check_static_secret_form(secret: &str) -> Result<(), Weakness> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !secret.bytes().all(allowed) {
        return Err(Weakness::StaticSecretCharacter);
    }
    check_length(secret, STATIC_SECRET_CHARS_MIN)
}

/// Checks an enrollment secret that the caller chose.
pub fn check_enrollment_secret(secret: &str) -> Result<(), Weakness> {
    if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Weakness::EnrollmentSecretCharacter);
    }
    check_length(secret, ENROLLMENT_SECRET_CHARS_MIN)?;
    check_guesses(secret, ENROLLMENT_SECRET_DECADES_MIN)
}

/// Bytes are characters here: what is not ASCII has been refused.
fn check_length(secret: &str, least: usize) -> Result<(), Weakness> {
    if secret.len() < least {
        return Err(Weakness::TooShort { least });
    }
    if secret.len() > CHOSEN_SECRET_CHARS_MAX {
        return Err(Weakness::TooLong);
    }
    Ok(())
}

/// Takes ASCII only, as it cuts by bytes.
fn check_guesses(secret: &str, decades_min: f64) -> Result<(), Weakness> {
    let judged = &secret[..secret.len().min(JUDGED_CHARS_MAX)];
    // Pieces are estimated each for itself, so nothing else would see that the second says what the first said.
    let judged = &judged[..period(judged.as_bytes())];
    let pieces = (0..judged.len()).step_by(PIECE_CHARS).map(|at| &judged[at..judged.len().min(at + PIECE_CHARS)]);
    let decades: f64 = pieces.map(|piece| zxcvbn::zxcvbn(piece, &[]).guesses_log10()).sum();
    if decades < decades_min {
        return Err(Weakness::Guessable);
    }
    Ok(())
}

/// The least length after which the text only repeats itself; its whole length if it does not.
fn period(text: &[u8]) -> usize {
    (1..text.len()).find(|&length| text[length..] == text[..text.len() - length]).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    #[test]
    fn each_rule_has_its_answer() {
        let good = "Wb3nT8yQkz0-fJ5rVhLx2mPcEa7_uGdSi9oRtYw4KvBq";
        let table = [
            (good.to_owned(), Ok(())),
            (good[1..].to_owned(), Err(Weakness::TooShort { least: 44 })),
            (String::new(), Err(Weakness::TooShort { least: 44 })),
            (good.repeat(12)[..513].to_owned(), Err(Weakness::TooLong)),
            (format!("{good} "), Err(Weakness::StaticSecretCharacter)),
            (format!("{good}\n"), Err(Weakness::StaticSecretCharacter)),
            (format!("{good}ä"), Err(Weakness::StaticSecretCharacter)),
        ];
        for (secret, expected) in table {
            assert_eq!(check_static_secret(&secret), expected, "{secret}");
        }
        assert_eq!(check_enrollment_secret(&good[..32]), Ok(()));
        assert_eq!(check_enrollment_secret(&good[..31]), Err(Weakness::TooShort { least: 32 }));
        assert_eq!(check_enrollment_secret(&good.repeat(12)[..513]), Err(Weakness::TooLong));
        assert_eq!(check_enrollment_secret("with a space"), Err(Weakness::EnrollmentSecretCharacter));
        assert_eq!(check_enrollment_secret("ä"), Err(Weakness::EnrollmentSecretCharacter));
    }

    #[test]
    fn what_people_type_is_refused() {
        let table = [
            "a".repeat(44),
            "a".repeat(512),
            "password".repeat(6),
            "abc123".repeat(8),
            "20261122".repeat(6),
            "deadbeef".repeat(6),
            "0123456789".repeat(5),
            "0123456789abcdef".repeat(3),
            "changeme_".repeat(6),
            "portcullis-".repeat(5),
            "x7Kq9mZ2pLw4RtYb".repeat(4),
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".to_owned(),
            "qwertyuiopasdfghjklzxcvbnm1234567890qwertyuiop".to_owned(),
            "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee".to_owned(),
        ];
        for secret in table {
            assert_eq!(check_static_secret(&secret), Err(Weakness::Guessable), "{secret}");
            assert_eq!(check_enrollment_secret(&secret), Err(Weakness::Guessable), "{secret}");
        }
        let words = "passwordpassword-letmein-qwertyuiop-123456789-admin";
        assert_eq!(check_static_secret(words), Err(Weakness::Guessable));
        assert_eq!(check_enrollment_secret("autoenrollmentsecretforworkers01"), Err(Weakness::Guessable));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn random_values_pass(bytes: [u8; 33]) {
            // The generator of the test leans towards edge cases; a digest of what it gives is as good as random.
            let mut random = [0; 33];
            blake3::Hasher::new().update(&bytes).finalize_xof().fill(&mut random);
            let base64url = URL_SAFE_NO_PAD.encode(random);
            prop_assert_eq!(check_static_secret(&base64url), Ok(()), "{}", &base64url);
            prop_assert_eq!(check_enrollment_secret(&base64url[..32]), Ok(()), "{}", &base64url);
            let hexadecimal = blake3::hash(&bytes).to_hex();
            prop_assert_eq!(check_static_secret(&hexadecimal), Ok(()), "{}", &hexadecimal);
            prop_assert_eq!(check_enrollment_secret(&hexadecimal[..32]), Ok(()), "{}", &hexadecimal);
        }

        #[test]
        fn repetitions_never_pass(unit in "[A-Za-z0-9_-]{1,20}") {
            let secret = unit.repeat(64_usize.div_ceil(unit.len()));
            prop_assert_eq!(check_static_secret(&secret), Err(Weakness::Guessable));
            prop_assert_eq!(check_enrollment_secret(&secret), Err(Weakness::Guessable));
        }

        #[test]
        fn no_text_makes_it_panic(text: String, allowed in "[!-~]{32,80}", digits in "[-0-9]{44,80}") {
            for text in [text, allowed, digits] {
                let _ = (check_static_secret(&text), check_enrollment_secret(&text));
            }
        }
    }
}
