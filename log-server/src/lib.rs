//! The Stratalog broker.
