//! Types as they are written: what can be told of them without rustc.

use quote::ToTokens;
use syn::{GenericArgument, PathArguments, Type};

use crate::parse::written;

/// Whether a type is one of the extractors that are known by name.
pub(super) fn is_extractor(ty: &Type) -> bool {
    last_word(ty).is_some_and(|last| ["Context", "Conf"].contains(&last.as_str()))
}

/// Whether a type is one of the standard library's that is surely no extractor.
pub(super) fn is_plain(ty: &Type) -> bool {
    const PLAIN: [&str; 20] = [
        "String", "Vec", "Option", "HashMap", "BTreeMap", "Value", "Bytes", "bool", "char", "f32", "f64",
        "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "usize",
    ];
    matches!(ty, Type::Tuple(_)) || last_word(ty).is_some_and(|last| PLAIN.contains(&last.as_str()))
}

fn last_word(ty: &Type) -> Option<String> {
    let Type::Path(path) = ty else { return None };
    path.path.segments.last().map(|last| last.ident.to_string())
}

/// The `T` of `Option<T>`.
pub(super) fn option_of(ty: &Type) -> Option<&Type> {
    generic_of(ty, "Option")
}

fn generic_of<'t>(ty: &'t Type, name: &str) -> Option<&'t Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}

/// Whether a type is written as `Vec` of `Option`.
pub(super) fn is_list_of_options(ty: &Type) -> bool {
    generic_of(ty, "Vec").is_some_and(|item| option_of(item).is_some())
}

/// A type as people write it.
pub fn written(ty: &impl ToTokens) -> String {
    written::ty(ty)
}
