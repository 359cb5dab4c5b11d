//! Typed access to the columns of a batch, and columns from Rust values.

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, ListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};

use super::Fields;
use crate::error::{Result, StoreError};

/// The columns of a batch of the file `path`.
pub(super) struct Columns<'a> {
    pub(super) path: &'a Path,
    pub(super) batch: &'a RecordBatch,
}

impl Columns<'_> {
    pub(super) fn strings(&self, name: &str) -> Result<Vec<String>> {
        let array = self.string_array(name)?;
        self.require_values(name, array)?;
        Ok(array.iter().map(|s| s.unwrap_or_default().to_owned()).collect())
    }

    pub(super) fn optional_strings(&self, name: &str) -> Result<Vec<Option<String>>> {
        Ok(self.string_array(name)?.iter().map(|s| s.map(str::to_owned)).collect())
    }

    /// JSON objects.
    pub(super) fn fields(&self, name: &'static str) -> Result<Vec<Fields>> {
        let parse = |text: Option<&str>| serde_json::from_str(text.unwrap_or("{}"));
        let rows = self.string_array(name)?.iter().map(parse).collect::<serde_json::Result<_>>();
        rows.map_err(|source| StoreError::ColumnJson { path: self.path.to_owned(), column: name, source })
    }

    pub(super) fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Result<Vec<T::Native>> {
        let array = self.array::<T>(name)?;
        self.require_values(name, array)?;
        Ok(array.values().to_vec())
    }

    pub(super) fn u32s(&self, name: &str) -> Result<Vec<u32>> {
        self.numbers::<UInt32Type>(name)
    }

    pub(super) fn string_lists(&self, name: &str) -> Result<Vec<Option<Vec<String>>>> {
        self.lists(name, "list<utf8>", |list| {
            let list = list.as_string_opt::<i32>()?;
            Some(list.iter().map(|s| s.unwrap_or_default().to_owned()).collect())
        })
    }

    pub(super) fn f32_lists(&self, name: &str) -> Result<Vec<Option<Vec<f32>>>> {
        self.lists(name, "list<float>", |list| Some(list.as_primitive_opt::<Float32Type>()?.values().to_vec()))
    }

    pub(super) fn array<T: ArrowPrimitiveType>(&self, name: &str) -> Result<&PrimitiveArray<T>> {
        let array = self.batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<T>());
        array.ok_or_else(|| self.wrong(name, std::any::type_name::<T::Native>()))
    }

    fn string_array(&self, name: &str) -> Result<&StringArray> {
        let array = self.batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        array.ok_or_else(|| self.wrong(name, "utf8"))
    }

    fn lists<T>(
        &self,
        name: &str,
        expected: &'static str,
        list: impl Fn(&ArrayRef) -> Option<T>,
    ) -> Result<Vec<Option<T>>> {
        let array = self.batch.column_by_name(name).and_then(|c| c.as_list_opt::<i32>());
        let array = array.ok_or_else(|| self.wrong(name, expected))?;
        let rows = array.iter().map(|row| match row {
            Some(row) => list(&row).map(Some),
            None => Some(None),
        });
        rows.collect::<Option<Vec<_>>>().ok_or_else(|| self.wrong(name, expected))
    }

    /// Other programs write columns with nulls.
    fn require_values(&self, name: &str, array: &dyn Array) -> Result<()> {
        match array.null_count() {
            0 => Ok(()),
            nulls => Err(StoreError::Null { path: self.path.to_owned(), column: name.to_owned(), nulls }),
        }
    }

    fn wrong(&self, name: &str, expected: &'static str) -> StoreError {
        let found = self.batch.column_by_name(name).map(|c| c.data_type().clone());
        StoreError::Column { path: self.path.to_owned(), column: name.to_owned(), expected, found }
    }
}

/// A column without nulls.
pub(super) fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

/// A column with nulls.
pub(super) fn optional(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// The type of a list column.
pub(super) fn list_of(data_type: DataType) -> DataType {
    DataType::new_list(data_type, true)
}

pub(super) fn string_column(values: impl IntoIterator<Item = impl AsRef<str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub(super) fn optional_string_column<'a>(values: impl Iterator<Item = &'a Option<String>>) -> ArrayRef {
    Arc::new(values.map(Option::as_deref).collect::<StringArray>())
}

/// JSON objects as text.
pub(super) fn fields_column<'a>(values: impl Iterator<Item = &'a Fields>) -> ArrayRef {
    string_column(values.map(|fields| serde_json::Value::from(fields.clone()).to_string()))
}

pub(super) fn number_column<T: ArrowPrimitiveType>(values: impl IntoIterator<Item = T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(values))
}

pub(super) fn string_list_column<'a>(values: impl Iterator<Item = Option<&'a [String]>>) -> ArrayRef {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for value in values {
        match value {
            Some(strings) => lists.append_value(strings.iter().map(Some)),
            None => lists.append_null(),
        }
    }
    Arc::new(lists.finish())
}

pub(super) fn f32_list_column<'a>(values: impl Iterator<Item = Option<&'a [f32]>>) -> ArrayRef {
    let lists = values.map(|value| value.map(|numbers| numbers.iter().copied().map(Some)));
    Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(lists))
}
