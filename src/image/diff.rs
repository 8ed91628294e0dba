//! From an upper directory to a layer's tar.
