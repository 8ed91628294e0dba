//! Writing the index of a pack: from the finished [`Tree`] to the bytes that [`super::format`] reads.

use std::collections::HashMap;
use std::collections::HashSet;

use super::format::BLOCK;
use super::format::CHECKSUM_LEN;
use super::format::COMPAT_BLOCK_SUMS;
use super::format::COMPAT_BODY_SUMS;
use super::format::ENTRY_WHITEOUT;
use super::format::HEADER_LEN;
use super::format::MAGIC;
use super::format::NODE_IMPLIED;
use super::format::NODE_OPAQUE;
use super::format::ObjectRef;
use super::format::Place;
use super::format::SUMS_AT;
use super::format::Splice;
use super::format::TABLES_AT;
use super::format::Table;
use super::format::VERSION;
use super::format::block_sums;
use super::tree::Attrs;
use super::tree::Item;
use super::tree::NodeId;
use super::tree::ROOT;
use super::tree::Tree;
use super::tree::TreeNode;
use super::tree::What;
use crate::digest::Digest;
use crate::layer::marks::is_private_xattr;
use crate::sys::attr::Kind;
use crate::sys::attr::Time;

/// What the index says beside the tree.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub diff_id: Digest,
    pub pack_len: u64,
    pub tar_size: u64,
    pub splices: &'a [Splice],
    pub objects: &'a [ObjectRef],
}

/// A table has more records than 32 bits can number.
#[derive(Debug)]
pub(super) struct TooLarge;

/// The bytes of the index file.
pub(super) fn encode(tree: &Tree, frame: &Frame<'_>) -> Result<Vec<u8>, TooLarge> {
    let mut out = Encoder::default();
    out.plan(tree)?;
    for id in std::mem::take(&mut out.order) {
        if let Some(node) = tree.node(id) {
            out.node(id, node)?;
        }
    }
    Ok(out.assemble(frame))
}

#[derive(Debug, Default)]
struct Encoder {
    /// The nodes that have a name, in the order of their numbers.
    order: Vec<NodeId>,
    numbers: HashMap<NodeId, u32, rustc_hash::FxBuildHasher>,
    links: HashMap<NodeId, u32, rustc_hash::FxBuildHasher>,
    /// The nodes whose name has a whiteout in the same layer.
    hiding: HashSet<NodeId, rustc_hash::FxBuildHasher>,
    nodes: Vec<u8>,
    entries: Vec<u8>,
    extents: Vec<u8>,
    xattrs: Vec<u8>,
    text: Vec<u8>,
    /// Where a xattr name or value lies in the text: the same few come again and again.
    known: HashMap<Box<[u8]>, u32, rustc_hash::FxBuildHasher>,
}

fn put32(to: &mut Vec<u8>, n: u32) {
    to.extend_from_slice(&n.to_le_bytes());
}

fn put64(to: &mut Vec<u8>, n: u64) {
    to.extend_from_slice(&n.to_le_bytes());
}

fn count(table: &[u8], of: Table) -> Result<u32, TooLarge> {
    u32::try_from(table.len() / of.record()).map_err(|_| TooLarge)
}

impl Encoder {
    /// Numbers every node that can be reached from the root, breadth first, so that the inodes of one directory lie
    /// together; what was replaced gets no number.
    fn plan(&mut self, tree: &Tree) -> Result<(), TooLarge> {
        self.order.push(ROOT);
        self.numbers.insert(ROOT, 0);
        self.links.insert(ROOT, 2);
        let mut next = 0;
        while let Some(&id) = self.order.get(next) {
            next += 1;
            let Some(TreeNode { what: What::Dir(children), .. }) = tree.node(id) else { continue };
            for (child, whiteout) in children.values().filter_map(|slot| Some((slot.node?, slot.whiteout))) {
                if whiteout {
                    self.hiding.insert(child);
                }
                let is_dir = tree.node(child).is_some_and(|n| matches!(n.what, What::Dir(_)));
                let links = self.links.entry(child).or_insert(u32::from(is_dir));
                *links = links.saturating_add(1);
                if is_dir {
                    let own = self.links.entry(id).or_default();
                    *own = own.saturating_add(1);
                }
                if !self.numbers.contains_key(&child) {
                    let number = u32::try_from(self.order.len()).map_err(|_| TooLarge)?;
                    self.numbers.insert(child, number);
                    self.order.push(child);
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, bytes: &[u8]) -> Result<u32, TooLarge> {
        let at = u32::try_from(self.text.len()).map_err(|_| TooLarge)?;
        u32::try_from(self.text.len() + bytes.len()).map_err(|_| TooLarge)?;
        self.text.extend_from_slice(bytes);
        Ok(at)
    }

    fn shared_text(&mut self, bytes: &[u8]) -> Result<u32, TooLarge> {
        if let Some(&at) = self.known.get(bytes) {
            return Ok(at);
        }
        let at = self.text(bytes)?;
        self.known.insert(bytes.into(), at);
        Ok(at)
    }

    /// The entries of a directory: first and count.
    fn directory(&mut self, what: &What) -> Result<(u32, u32), TooLarge> {
        let What::Dir(children) = what else { return Ok((0, 0)) };
        let first = count(&self.entries, Table::Entries)?;
        for (name, slot) in children {
            let name_at = self.text(name.as_bytes())?;
            let len = u16::try_from(name.as_bytes().len()).map_err(|_| TooLarge)?;
            let number = slot.node.and_then(|id| self.numbers.get(&id).copied());
            let flags = if number.is_none() { ENTRY_WHITEOUT } else { 0 };
            put32(&mut self.entries, name_at);
            self.entries.extend_from_slice(&len.to_le_bytes());
            self.entries.extend_from_slice(&flags.to_le_bytes());
            put32(&mut self.entries, number.unwrap_or(0));
        }
        Ok((first, count(&self.entries, Table::Entries)? - first))
    }

    /// The xattrs that readers are shown: not a union's own marks, which an image has no say in.
    fn xattrs(&mut self, attrs: &Attrs) -> Result<(u32, u32), TooLarge> {
        let first = count(&self.xattrs, Table::Xattrs)?;
        let mut shown: Vec<_> = attrs.xattrs.iter().filter(|(name, _)| !is_private_xattr(name)).collect();
        shown.sort();
        for (name, value) in shown {
            for part in [name, value] {
                let at = self.shared_text(part)?;
                put32(&mut self.xattrs, at);
                put32(&mut self.xattrs, u32::try_from(part.len()).map_err(|_| TooLarge)?);
            }
        }
        Ok((first, count(&self.xattrs, Table::Xattrs)? - first))
    }

    fn node(&mut self, id: NodeId, node: &TreeNode) -> Result<(), TooLarge> {
        let mut shape = Shape::default();
        let kind = match &node.what {
            What::Dir(_) => {
                (shape.first, shape.count) = self.directory(&node.what)?;
                Kind::Dir
            }
            What::Leaf(Item::Dir) => Kind::Dir,
            What::Leaf(Item::Symlink(text)) => {
                shape.first = self.text(text)?;
                shape.count = u32::try_from(text.len()).map_err(|_| TooLarge)?;
                shape.size = text.len() as u64;
                Kind::Symlink
            }
            What::Leaf(Item::Special(kind, rdev)) => {
                shape.rdev = *rdev;
                *kind
            }
            What::Leaf(Item::File { body, size, sparse }) => {
                (shape.place, shape.size, shape.stored, shape.sum) = (body.place, *size, body.stored, body.sum);
                if let Some(runs) = sparse {
                    shape.sparse = true;
                    shape.first = count(&self.extents, Table::Extents)?;
                    let mut offset = 0;
                    for run in runs.iter().filter(|run| run.len > 0) {
                        for n in [run.at, offset, run.len] {
                            put64(&mut self.extents, n);
                        }
                        offset += run.len;
                    }
                    shape.count = count(&self.extents, Table::Extents)? - shape.first;
                }
                Kind::File
            }
        };
        let xattrs = self.xattrs(&node.attrs)?;
        let links = self.links.get(&id).copied().unwrap_or(1);
        let mut flags = 0;
        for (flag, set) in [(NODE_OPAQUE, node.opaque || self.hiding.contains(&id)), (NODE_IMPLIED, node.implied)] {
            flags |= if set { flag } else { 0 };
        }
        shape.flags = flags | (u32::from(shape.sparse) << 16);
        self.record(&node.attrs, kind, links, &shape, xattrs);
        Ok(())
    }

    fn record(&mut self, attrs: &Attrs, kind: Kind, links: u32, shape: &Shape, xattrs: (u32, u32)) {
        let times: [Time; 3] = [attrs.mtime, attrs.atime.unwrap_or(attrs.mtime), attrs.ctime.unwrap_or(attrs.mtime)];
        let out = &mut self.nodes;
        for n in [kind.mode_bits() | (attrs.perm & 0o7777), attrs.uid, attrs.gid, links] {
            put32(out, n);
        }
        put64(out, shape.rdev);
        put64(out, shape.size);
        for time in times {
            out.extend_from_slice(&time.secs.to_le_bytes());
        }
        for time in times {
            put32(out, time.nanos);
        }
        put32(out, shape.flags);
        let (place, object, offset) = shape.place.encode();
        put32(out, place);
        // A body in the pack file has no object, and its sum stands there.
        put32(out, if matches!(shape.place, Place::Pack(_)) { shape.sum } else { object });
        put64(out, offset);
        for n in [shape.first, shape.count, xattrs.0, xattrs.1] {
            put32(out, n);
        }
        put64(out, shape.stored);
    }

    fn assemble(self, frame: &Frame<'_>) -> Vec<u8> {
        let mut splices = Vec::with_capacity(frame.splices.len() * Table::Splices.record());
        for splice in frame.splices {
            put64(&mut splices, splice.at);
            put32(&mut splices, splice.object);
            put32(&mut splices, 0);
        }
        let mut objects = Vec::with_capacity(frame.objects.len() * Table::Objects.record());
        for object in frame.objects {
            objects.extend_from_slice(object.digest.as_bytes());
            put64(&mut objects, object.len);
        }
        let tables = [self.nodes, self.entries, self.extents, splices, objects, self.xattrs, self.text];
        let covered = HEADER_LEN + tables.iter().map(Vec::len).sum::<usize>();
        let total = covered + covered.div_ceil(BLOCK) * 4 + CHECKSUM_LEN;
        let mut out = Vec::with_capacity(total);
        out.extend_from_slice(&MAGIC);
        put32(&mut out, VERSION);
        put32(&mut out, HEADER_LEN as u32);
        // Features: compatible, compatible for readers, incompatible.
        for n in [COMPAT_BODY_SUMS | COMPAT_BLOCK_SUMS, 0, 0, total as u64, frame.pack_len, frame.tar_size] {
            put64(&mut out, n);
        }
        out.extend_from_slice(frame.diff_id.as_bytes());
        out.resize(SUMS_AT, 0);
        put64(&mut out, covered as u64);
        out.resize(TABLES_AT, 0);
        let mut offset = HEADER_LEN;
        for (bytes, table) in tables.iter().zip(Table::ALL) {
            put64(&mut out, offset as u64);
            put64(&mut out, (bytes.len() / table.record()) as u64);
            offset += bytes.len();
        }
        for bytes in &tables {
            out.extend_from_slice(bytes);
        }
        let sums: Vec<u32> = block_sums(&out).collect();
        sums.into_iter().for_each(|sum| put32(&mut out, sum));
        let checksum = Digest::of(&out);
        out.extend_from_slice(checksum.as_bytes());
        out
    }
}

/// The part of a node's record that depends on its type.
#[derive(Debug, Default)]
struct Shape {
    first: u32,
    count: u32,
    place: Place,
    size: u64,
    stored: u64,
    sum: u32,
    sparse: bool,
    rdev: u64,
    /// Node flags in the lower half, whether it is sparse in the upper.
    flags: u32,
}
