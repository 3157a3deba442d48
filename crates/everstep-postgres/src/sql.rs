//! Statements, their values, and columns of what they return.

use std::borrow::Cow;

use everstep_core::store::StoreError;
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql, Type},
};

use crate::{fault::said, row::damaged};

/// A statement: its name for people, and its text, in which `@` stands for the schema and `everstep_`, and `:now` for the
/// time of the database's clock, which all machines share. Where that bounds a look in an index it stands in a query of its
/// own, `(SELECT :now)`: a clock that is read for each row ends no look.
#[derive(Clone, Debug)]
pub(crate) struct Sql(pub(crate) &'static str, pub(crate) Cow<'static, str>);

/// A statement that is always the same.
pub(crate) const fn sql(name: &'static str, text: &'static str) -> Sql {
    Sql(name, Cow::Borrowed(text))
}

/// A value of a statement, and its type there.
pub(crate) struct Arg<'a> {
    value: Box<dyn ToSql + Sync + Send + 'a>,
    pub(crate) ty: Type,
}

impl Arg<'_> {
    /// For statements that are not prepared.
    pub(crate) fn typed<'a>(args: &'a [Arg<'_>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
        args.iter().map(|arg| (arg.value(), arg.ty.clone())).collect()
    }

    pub(crate) fn value(&self) -> &(dyn ToSql + Sync) {
        &*self.value
    }
}

/// A value whose type in the database follows from its own.
pub(crate) fn arg<'a, T: ToSql + Sync + Send + Typed + 'a>(value: T) -> Arg<'a> {
    Arg { value: Box::new(value), ty: T::ty() }
}

/// Values of a statement.
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::sql::arg($value)),*] };
}
pub(crate) use args;

/// What type a value has in the database.
pub(crate) trait Typed {
    fn ty() -> Type;
}

impl<T: Typed + ?Sized> Typed for &T {
    fn ty() -> Type {
        T::ty()
    }
}

macro_rules! typed {
    ($($rust:ty => $one:ident $many:ident),* $(,)?) => { $(
        impl Typed for $rust { fn ty() -> Type { Type::$one } }
        impl Typed for Option<$rust> { fn ty() -> Type { Type::$one } }
        impl Typed for Vec<$rust> { fn ty() -> Type { Type::$many } }
        impl Typed for Vec<Option<$rust>> { fn ty() -> Type { Type::$many } }
    )* };
}
typed! {
    i64 => INT8 INT8_ARRAY, i32 => INT4 INT4_ARRAY, i16 => INT2 INT2_ARRAY, bool => BOOL BOOL_ARRAY,
    String => TEXT TEXT_ARRAY, Cow<'_, str> => TEXT TEXT_ARRAY, Vec<u8> => BYTEA BYTEA_ARRAY, &[u8] => BYTEA BYTEA_ARRAY,
}

impl Typed for str {
    fn ty() -> Type {
        Type::TEXT
    }
}

/// A column of a row.
pub(crate) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|error| damaged(&said("read a row", &error)))
}
