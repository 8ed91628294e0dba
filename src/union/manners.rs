//! What a mount's options change in how the union shows and changes things, beside the rules of the union itself.

use super::Result;
use super::Union;
use super::ids;
use super::ids::Ids;
use super::names::Caller;
use crate::sys::attr::Kind;
use crate::sys::attr::Stat;

/// How a union shows what it holds; fixed when the mount is made.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// Owners as shown and as stored.
    pub ids: Ids,
    /// Every directory has link count 1.
    pub static_nlink: bool,
    /// Listings show the numbers of the layers' own objects, without looking at each.
    pub fast_ino: bool,
    /// Layers may be changed from outside at any time: nothing that was learnt of them is kept from one request to the next.
    pub unsteady: bool,
}

impl Union {
    /// The same union with these manners; the default has none.
    pub fn with_manners(mut self, manners: Manners) -> Self {
        self.manners = manners;
        self
    }

    /// How things are shown.
    pub fn manners(&self) -> &Manners {
        &self.manners
    }

    /// Attributes with the owner that is shown.
    pub(super) fn owned(&self, stat: Stat) -> Stat {
        let (uid, gid) = self.manners.ids.shown((stat.uid, stat.gid));
        let nlink = if self.manners.static_nlink && stat.kind() == Kind::Dir { stat.nlink.min(1) } else { stat.nlink };
        Stat { uid, gid, nlink, ..stat }
    }

    /// The owner of what `caller` makes, as stored.
    pub(super) fn stored_caller(&self, caller: Caller) -> Caller {
        let (uid, gid) = self.manners.ids.stored((caller.uid, caller.gid));
        Caller { uid, gid, ..caller }
    }

    /// Changes the owner of an object in upper to the numbers that a user of the mount gives.
    pub(super) fn chown(&self, fd: &std::os::fd::OwnedFd, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let ids = &self.manners.ids;
        let (uid, gid) = (uid.map(|id| ids.stored_user(id)), gid.map(|id| ids.stored_group(id)));
        Ok(self.upper()?.chown(fd, uid, gid)?)
    }

    /// The value of an attribute as it is shown.
    pub(super) fn xattr_shown(&self, name: &[u8], value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut value = value?;
        if ids::is_acl(name) && !self.manners.ids.is_identity() {
            self.manners.ids.acl_shown(&mut value);
        }
        Some(value)
    }

    /// The value of an attribute as it is stored.
    pub(super) fn xattr_stored<'a>(&self, name: &[u8], value: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        if !ids::is_acl(name) || self.manners.ids.is_identity() {
            return value.into();
        }
        let mut value = value.to_vec();
        self.manners.ids.acl_stored(&mut value);
        value.into()
    }
}
