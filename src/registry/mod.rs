//! What comes over the network. The only room that opens connections: `http/` is the client, with the rules that hold for whatever is
//! fetched (redirects, credentials, time limits, proxies); what speaks to registries stands on it.

pub mod http;
