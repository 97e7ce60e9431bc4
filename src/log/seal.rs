//! The two seals over the log: a keyed chain for ourselves, and a Merkle tree for everyone.
//!
//! The chain is keyed BLAKE3: who has the database but not the root key cannot add, change, remove or swap an entry
//! without the next reader noticing. The tree is RFC 6962's, with the position as the leaf's index: an auditor needs no
//! key of ours to check it. Both move with the head, in the statement that appends.

use arrayvec::ArrayVec;
use aws_lc_rs::digest::{Context, Digest, SHA256, digest};

use crate::domain::ids::LogId;

/// A link of the chain, or a hash of the tree: both have 32 bytes.
pub type Hash = [u8; 32];

const HASH_BYTES: usize = 32;

/// The prefixes that keep a leaf from being passed off as a node (RFC 6962, section 2.1).
const LEAF_PREFIX: u8 = 0;
const NODE_PREFIX: u8 = 1;

/// Most entries are shorter. What lies in one piece is hashed in four fifths of the time, the copy included: a start hashes
/// the whole log.
const SHORT_LEAF_BYTES: usize = 1_024;

/// The mac before the first entry.
///
/// Its input is the log's id alone: shorter than any other input of the key, which starts with a whole mac. It makes
/// the first entry of one log a forgery in another, even under the same root key.
#[must_use]
pub fn genesis_mac(chain_key: &[u8; 32], log_id: LogId) -> Hash {
    blake3::keyed_hash(chain_key, &log_id.0.to_be_bytes()).into()
}

/// The mac of an entry: it covers the entry, and through `previous` all that came before.
#[must_use]
pub fn next_mac(chain_key: &[u8; 32], previous: &Hash, entry: &[u8]) -> Hash {
    blake3::Hasher::new_keyed(chain_key).update(previous).update(entry).finalize().into()
}

/// The hash of an entry as a leaf of the tree.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut leaf = ArrayVec::<u8, SHORT_LEAF_BYTES>::new();
    leaf.push(LEAF_PREFIX);
    if leaf.try_extend_from_slice(entry).is_ok() {
        return sha256(&leaf);
    }
    let mut context = Context::new(&SHA256);
    context.update(&[LEAF_PREFIX]);
    context.update(entry);
    hash_of(&context.finish())
}

/// The hash of two subtrees.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [NODE_PREFIX; 1 + 2 * HASH_BYTES];
    node[1..=HASH_BYTES].copy_from_slice(left);
    node[1 + HASH_BYTES..].copy_from_slice(right);
    sha256(&node)
}

/// The roots of the full subtrees of a tree, largest first: all that adding leaves needs to know of it.
///
/// A tree of 13 leaves is one of 8, one of 4 and one of 1, as 13 is `1101`; there is one hash for each digit that is 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

/// Bytes that are no frontier of a tree of the size given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frontier of {size} leaves is {} hashes, not {bytes} bytes", size.count_ones())]
pub struct NotAFrontier {
    size: u64,
    bytes: usize,
}

/// Both seals at one end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seals {
    pub mac: Hash,
    pub frontier: Frontier,
}

/// What the log keeps beside one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub mac: Hash,
    pub leaf_hash: Hash,
}

impl Frontier {
    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. Two full subtrees of one size become one of the next, as digits carry when one is added.
    pub fn push(&mut self, leaf_hash: Hash) {
        let mut root = leaf_hash;
        for _ in 0..self.size.trailing_ones() {
            let left = self.roots.pop().expect("one root for each digit that is 1");
            root = node_hash(&left, &root);
        }
        self.roots.push(root);
        self.size += 1;
    }

    /// The root of the whole tree: RFC 6962's Merkle Tree Hash.
    #[must_use]
    pub fn root(&self) -> Hash {
        let smallest_first = self.roots.iter().rev().copied();
        smallest_first.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(|| sha256(&[]))
    }

    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.roots.concat()
    }

    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, NotAFrontier> {
        let (roots, rest) = bytes.as_chunks::<HASH_BYTES>();
        let expected = usize::try_from(size.count_ones());
        if !rest.is_empty() || expected != Ok(roots.len()) {
            return Err(NotAFrontier { size, bytes: bytes.len() });
        }
        Ok(Self { size, roots: roots.to_vec() })
    }
}

impl Seals {
    /// Those of an empty log.
    #[must_use]
    pub fn genesis(chain_key: &[u8; 32], log_id: LogId) -> Self {
        Self { mac: genesis_mac(chain_key, log_id), frontier: Frontier::default() }
    }

    /// Moves both past `entry`.
    pub fn advance(&mut self, chain_key: &[u8; 32], entry: &[u8]) -> Sealed {
        self.mac = next_mac(chain_key, &self.mac, entry);
        let leaf_hash = leaf_hash(entry);
        self.frontier.push(leaf_hash);
        Sealed { mac: self.mac, leaf_hash }
    }
}

fn sha256(bytes: &[u8]) -> Hash {
    hash_of(&digest(&SHA256, bytes))
}

fn hash_of(digest: &Digest) -> Hash {
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(digest.as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The leaves and roots that the certificate-transparency project tests its trees with.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 6962, section 2.1, word for word.
    fn merkle_tree_hash(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(&[]),
            [leaf] => *leaf,
            leaves => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&merkle_tree_hash(left), &merkle_tree_hash(right))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_reference_vectors() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.root().as_slice(), bytes(ROOTS[0]));
        for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
            frontier.push(leaf_hash(&bytes(leaf)));
            assert_eq!(frontier.root().as_slice(), bytes(root), "{} leaves", frontier.size());
        }
    }

    #[test]
    fn a_frontier_knows_the_root_of_its_tree_and_survives_being_stored() {
        let leaves: Vec<Hash> = (0_u16..300).map(|number| leaf_hash(&number.to_be_bytes())).collect();
        let mut frontier = Frontier::default();
        for size in 0..=leaves.len() {
            assert_eq!(frontier.root(), merkle_tree_hash(&leaves[..size]), "{size} leaves");
            assert_eq!(Frontier::from_bytes(frontier.size(), &frontier.to_bytes()), Ok(frontier.clone()));
            if let Some(leaf) = leaves.get(size) {
                frontier.push(*leaf);
            }
        }
    }

    /// RFC 6962, section 2.1, on both sides of where an entry is no longer hashed in one piece.
    #[test]
    fn a_leaf_of_any_length_is_hashed_with_its_prefix() {
        for length in [0, SHORT_LEAF_BYTES - 2, SHORT_LEAF_BYTES - 1, SHORT_LEAF_BYTES, 65_535] {
            let entry: Vec<u8> = (0..=250).cycle().take(length).collect();
            let expected = digest(&SHA256, &[&[0], entry.as_slice()].concat());
            assert_eq!(leaf_hash(&entry).as_slice(), expected.as_ref(), "{length} bytes");
        }
    }

    #[test]
    fn bytes_that_do_not_fit_the_size_are_no_frontier() {
        for (size, length) in [(0, 32), (1, 0), (1, 31), (1, 64), (3, 32), (u64::MAX, 63 * 32)] {
            let refused = Err(NotAFrontier { size, bytes: length });
            assert_eq!(Frontier::from_bytes(size, &vec![0; length]), refused, "{size} leaves");
        }
    }

    /// Entries, order, key and log all count.
    #[test]
    fn the_chain_tells_what_it_covers() {
        let end = |key: [u8; 32], log, entries: &[&[u8]]| {
            let mut seals = Seals::genesis(&key, LogId(log));
            for entry in entries {
                seals.advance(&key, entry);
            }
            seals.mac
        };
        let mac = end([1; 32], 7, &[b"one", b"two"]);
        assert_eq!(mac, end([1; 32], 7, &[b"one", b"two"]));
        for (key, log, entries) in [
            ([2; 32], 7, [b"one", b"two"]),
            ([1; 32], 8, [b"one", b"two"]),
            ([1; 32], 7, [b"two", b"one"]),
            ([1; 32], 7, [b"one", b"twO"]),
        ] {
            assert_ne!(mac, end(key, log, &entries.map(<[u8; 3]>::as_slice)));
        }
    }

    #[test]
    fn a_mac_is_the_keyed_hash_of_the_previous_mac_and_the_entry() {
        let mac = next_mac(&[3; 32], &[4; 32], b"entry");
        let joined = [[4; 32].as_slice(), b"entry"].concat();
        assert_eq!(mac, *blake3::keyed_hash(&[3; 32], &joined).as_bytes());
    }
}
