//! Takes a trained MobileNetV2 to the int8 package that every target loads.
//!
//! [`contract`] says what the network was trained on.
#![forbid(unsafe_code)]

pub mod contract;
