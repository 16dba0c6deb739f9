//! The Arrow C data and stream interfaces: columns handed to whoever reads Arrow, without a library.
//!
//! Layouts, flags and rules of release are those of the specification ("The Arrow C data interface", "The Arrow C
//! stream interface"). Whoever gets a structure may move it bit by bit and then marks the old place as released.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

/// A field may hold nulls.
const NULLABLE: i64 = 2;

/// A column's name and type, or a whole table's.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// Its name; empty for a table.
    pub name: &'static str,
    /// Its type, as the specification writes it.
    pub format: &'static CStr,
    /// Of a table: its columns.
    pub children: Vec<Self>,
    /// The type of the values, where `format` is that of indices into them.
    pub dictionary: Option<&'static CStr>,
}

/// Values of a column, or rows of a table, in the buffers that their type asks for.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// How many.
    pub length: usize,
    /// How many of them are null.
    pub nulls: usize,
    /// The buffers; `None` for a validity bitmap that isn't needed.
    pub buffers: Vec<Option<Buffer>>,
    /// Of a table: its columns.
    pub children: Vec<Self>,
    /// What indices point at.
    pub dictionary: Option<Box<Self>>,
}

/// Bytes that start where 64-bit values may.
#[derive(Debug)]
pub(super) struct Buffer(Vec<u64>);

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        let (whole, rest) = bytes.as_chunks();
        let mut words: Vec<u64> = whole.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        // A word more than there is, so that an empty buffer has an address of its own, too.
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        words.push(u64::from_ne_bytes(last));
        Self(words)
    }
}

/// Gives the batches of a stream.
pub(super) trait Source: Send + 'static {
    /// The table that every batch is rows of.
    fn schema(&self) -> Field;

    /// The next rows, `None` at the end, or why they can't be had.
    fn next(&mut self) -> Result<Option<Values>, String>;
}

/// `struct ArrowSchema`: what a table's columns are.
#[repr(C)]
pub struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

/// `struct ArrowArray`
#[repr(C)]
struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

/// `struct ArrowArrayStream`: a table, batch by batch.
#[repr(C)]
pub struct ArrowArrayStream {
    get_schema: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowSchema) -> c_int>,
    get_next: Option<unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowArray) -> c_int>,
    get_last_error: Option<unsafe extern "C" fn(*mut ArrowArrayStream) -> *const c_char>,
    release: Option<unsafe extern "C" fn(*mut ArrowArrayStream)>,
    private_data: *mut c_void,
}

/// What an [`ArrowSchema`] points at.
struct SchemaParts {
    name: CString,
    children: Owned<ArrowSchema>,
    dictionary: Owned<ArrowSchema>,
}

/// What an [`ArrowArray`] points at.
struct ArrayParts {
    pointers: Vec<*const c_void>,
    _buffers: Vec<Option<Buffer>>,
    children: Owned<ArrowArray>,
    dictionary: Owned<ArrowArray>,
}

/// What an [`ArrowArrayStream`] points at.
struct StreamParts {
    source: Box<dyn Source>,
    error: CString,
}

/// Structures on the heap, by address. A reader may move their content out of them, but the places are ours to free.
struct Owned<T>(Vec<*mut T>);

impl<T> Owned<T> {
    fn new(all: impl IntoIterator<Item = T>) -> Self {
        Self(all.into_iter().map(|one| Box::into_raw(Box::new(one))).collect())
    }

    fn first(&self) -> *mut T {
        self.0.first().copied().unwrap_or(ptr::null_mut())
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        for &place in &self.0 {
            // SAFETY: `new` made each place by `Box::into_raw`, and it is taken back here only. Dropping what lies in it
            // releases it unless a reader has moved it away, which leaves it marked as released.
            drop(unsafe { Box::from_raw(place) });
        }
    }
}

impl ArrowSchema {
    /// A schema that describes `field`.
    pub(super) fn new(field: Field) -> Self {
        let Field { name, format, children, dictionary } = field;
        // A name with a NUL in it, which no table here has, would be cut off by its reader anyway.
        let name = CString::new(name).unwrap_or_default();
        let values = dictionary.map(|format| Field { name: "", format, children: Vec::new(), dictionary: None });
        let mut parts = Box::new(SchemaParts {
            name,
            children: Owned::new(children.into_iter().map(Self::new)),
            dictionary: Owned::new(values.map(Self::new)),
        });
        Self {
            format: format.as_ptr(),
            name: parts.name.as_ptr(),
            metadata: ptr::null(),
            flags: NULLABLE,
            n_children: parts.children.0.len() as i64,
            children: parts.children.0.as_mut_ptr(),
            dictionary: parts.dictionary.first(),
            release: Some(release_schema),
            private_data: Box::into_raw(parts).cast(),
        }
    }
}

impl ArrowArray {
    fn new(values: Values) -> Self {
        let Values { length, nulls, buffers, children, dictionary } = values;
        let address = |buffer: &Option<Buffer>| buffer.as_ref().map_or(ptr::null(), |b| b.0.as_ptr().cast());
        let mut parts = Box::new(ArrayParts {
            pointers: buffers.iter().map(address).collect(),
            _buffers: buffers,
            children: Owned::new(children.into_iter().map(Self::new)),
            dictionary: Owned::new(dictionary.map(|values| Self::new(*values))),
        });
        Self {
            length: length as i64,
            null_count: nulls as i64,
            offset: 0,
            n_buffers: parts.pointers.len() as i64,
            n_children: parts.children.0.len() as i64,
            buffers: parts.pointers.as_mut_ptr(),
            children: parts.children.0.as_mut_ptr(),
            dictionary: parts.dictionary.first(),
            release: Some(release_array),
            private_data: Box::into_raw(parts).cast(),
        }
    }

    /// An array that is released already: how a stream says that it has ended.
    fn released() -> Self {
        Self {
            length: 0,
            null_count: 0,
            offset: 0,
            n_buffers: 0,
            n_children: 0,
            buffers: ptr::null_mut(),
            children: ptr::null_mut(),
            dictionary: ptr::null_mut(),
            release: None,
            private_data: ptr::null_mut(),
        }
    }
}

impl ArrowArrayStream {
    /// A stream of what `source` gives.
    pub(super) fn new(source: impl Source) -> Self {
        let parts = Box::new(StreamParts { source: Box::new(source), error: CString::default() });
        Self {
            get_schema: Some(get_schema),
            get_next: Some(get_next),
            get_last_error: Some(get_last_error),
            release: Some(release_stream),
            private_data: Box::into_raw(parts).cast(),
        }
    }
}

// SAFETY: it points at immutable parts of its own only, which any thread may free.
unsafe impl Send for ArrowSchema {}
// SAFETY: it points at parts of its own only, whose source is `Send`; the interface lets one thread at a time use it.
unsafe impl Send for ArrowArrayStream {}

/// What is dropped while nobody has moved it away is released by its own callback, as a reader would.
macro_rules! release_on_drop {
    ($($type:ty),*) => {$(
        impl Drop for $type {
            fn drop(&mut self) {
                if let Some(release) = self.release {
                    // SAFETY: `release` is set, so what `self` points at is still there, and this is its last use.
                    unsafe { release(self) }
                }
            }
        }
    )*};
}
release_on_drop!(ArrowSchema, ArrowArray, ArrowArrayStream);

/// SAFETY: `schema` was made by [`ArrowSchema::new`], perhaps moved since, and isn't released yet.
unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: see above; nobody else uses it during the call.
    let schema = unsafe { &mut *schema };
    schema.release = None;
    // SAFETY: `private_data` is what `new` made of a box of this type, and with `release` gone it is taken back once.
    drop(unsafe { Box::from_raw(schema.private_data.cast::<SchemaParts>()) });
}

/// SAFETY: `array` was made by [`ArrowArray::new`], perhaps moved since, and isn't released yet.
unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: see above; nobody else uses it during the call.
    let array = unsafe { &mut *array };
    array.release = None;
    // SAFETY: `private_data` is what `new` made of a box of this type, and with `release` gone it is taken back once.
    drop(unsafe { Box::from_raw(array.private_data.cast::<ArrayParts>()) });
}

/// SAFETY: `stream` was made by [`ArrowArrayStream::new`], perhaps moved since, and isn't released yet.
unsafe extern "C" fn release_stream(stream: *mut ArrowArrayStream) {
    // SAFETY: see above; nobody else uses it during the call.
    let stream = unsafe { &mut *stream };
    stream.release = None;
    // SAFETY: `private_data` is what `new` made of a box of this type, and with `release` gone it is taken back once.
    drop(unsafe { Box::from_raw(stream.private_data.cast::<StreamParts>()) });
}

/// SAFETY: `stream` as for [`release_stream`], used by one thread at a time; nothing else borrows its parts.
unsafe fn parts_of<'a>(stream: *mut ArrowArrayStream) -> &'a mut StreamParts {
    // SAFETY: a stream that isn't released points at its parts, and the caller holds the only use of it.
    unsafe { &mut *(*stream).private_data.cast::<StreamParts>() }
}

/// SAFETY: `stream` as for [`release_stream`]; `out` is a place for a schema, with nothing in it.
unsafe extern "C" fn get_schema(stream: *mut ArrowArrayStream, out: *mut ArrowSchema) -> c_int {
    // SAFETY: the interface's rules for `stream` and `out`, see above.
    unsafe { ptr::write(out, ArrowSchema::new(parts_of(stream).source.schema())) };
    0
}

/// SAFETY: `stream` as for [`release_stream`]; `out` is a place for an array, with nothing in it.
unsafe extern "C" fn get_next(stream: *mut ArrowArrayStream, out: *mut ArrowArray) -> c_int {
    // SAFETY: the interface's rules for `stream`, see above.
    let parts = unsafe { parts_of(stream) };
    let array = match parts.source.next() {
        Ok(Some(values)) => ArrowArray::new(values),
        Ok(None) => ArrowArray::released(),
        Err(why) => {
            parts.error = CString::new(why.replace('\0', " ")).unwrap_or_default();
            return libc::EIO;
        }
    };
    // SAFETY: the interface's rules for `out`, see above.
    unsafe { ptr::write(out, array) };
    0
}

/// SAFETY: `stream` as for [`release_stream`].
unsafe extern "C" fn get_last_error(stream: *mut ArrowArrayStream) -> *const c_char {
    // SAFETY: the interface's rules for `stream`; what is returned lives until the stream's next call, as it asks for.
    let error = unsafe { &parts_of(stream).error };
    if error.is_empty() { ptr::null() } else { error.as_ptr() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::sync::Arc;

    /// Gives two batches and then an error; how many of its like are alive can be counted.
    struct Two {
        left: i64,
        _alive: Arc<()>,
    }

    impl Source for Two {
        fn schema(&self) -> Field {
            let number = Field { name: "n", format: c"L", children: Vec::new(), dictionary: None };
            let word = Field { name: "word", format: c"C", dictionary: Some(c"u"), ..number.clone() };
            Field { name: "", format: c"+s", children: vec![number, word], dictionary: None }
        }

        fn next(&mut self) -> Result<Option<Values>, String> {
            self.left -= 1;
            if self.left < 0 {
                return Err("no\0more".to_owned());
            }
            let bytes = |bytes: &[u8]| Some(Buffer::from(bytes));
            let numbers = Values {
                length: 2,
                nulls: 1,
                buffers: vec![bytes(&[0b01]), bytes(&[[7, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat())],
                ..Values::default()
            };
            let names = [0u32, 2, 5].map(u32::to_le_bytes).concat();
            let names = Values { length: 2, buffers: vec![None, bytes(&names), bytes(b"oknot")], ..Values::default() };
            let words = Values {
                length: 2,
                buffers: vec![None, bytes(&[1, 0])],
                dictionary: Some(Box::new(names)),
                ..Values::default()
            };
            let children = vec![numbers, words];
            Ok(Some(Values { length: 2, buffers: vec![None], children, ..Values::default() }))
        }
    }

    fn stream(left: i64) -> (ArrowArrayStream, Arc<()>) {
        let alive = Arc::new(());
        (ArrowArrayStream::new(Two { left, _alive: Arc::clone(&alive) }), alive)
    }

    fn next(stream: &mut ArrowArrayStream) -> Result<ArrowArray, String> {
        let mut array = ArrowArray::released();
        // SAFETY: a stream of ours that isn't released, and a place of ours.
        let status = unsafe { (stream.get_next.unwrap())(stream, &mut array) };
        if status == 0 {
            return Ok(array);
        }
        // SAFETY: as above; after an error its words are there.
        let words = unsafe { CStr::from_ptr((stream.get_last_error.unwrap())(stream)) };
        Err(words.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_reader_finds_types_and_values_where_the_interface_says() {
        let (mut stream, _) = stream(1);
        let mut place = MaybeUninit::uninit();
        // SAFETY: a stream of ours that isn't released, and a place of ours.
        assert_eq!(unsafe { (stream.get_schema.unwrap())(&mut stream, place.as_mut_ptr()) }, 0);
        // SAFETY: with status 0 the place was filled.
        let schema: ArrowSchema = unsafe { place.assume_init() };
        let array = next(&mut stream).unwrap();
        // SAFETY: every pointer below is one that the structures just made say is there.
        unsafe {
            let word = &**schema.children.add(1);
            assert_eq!((CStr::from_ptr(schema.format), schema.n_children, word.flags), (c"+s", 2, NULLABLE));
            assert_eq!((CStr::from_ptr(word.name), CStr::from_ptr((*word.dictionary).format)), (c"word", c"u"));
            let numbers = &**array.children;
            assert_eq!((array.length, array.n_buffers, numbers.null_count), (2, 1, 1));
            assert_eq!(*(*numbers.buffers.add(1)).cast::<u64>(), 7);
            let words = &**array.children.add(1);
            assert!((*words.buffers).is_null());
            assert_eq!((*words.dictionary).length, 2);
        }
    }

    #[test]
    fn what_is_moved_away_outlives_its_stream_and_its_parent() {
        let (mut stream, alive) = stream(1);
        let mut array = next(&mut stream).unwrap();
        // SAFETY: the first child is there; moving it out and marking its place is what the interface lets a reader do.
        let child = unsafe {
            let place = *array.children;
            let child = ptr::read(place);
            (*place).release = None;
            child
        };
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(stream);
        assert_eq!(Arc::strong_count(&alive), 1);
        // SAFETY: it was not released yet.
        unsafe { (array.release.unwrap())(&mut array) };
        assert!(array.release.is_none());
        // SAFETY: the child's own buffers live until it is dropped below.
        assert_eq!(unsafe { *(*child.buffers.add(1)).cast::<u64>() }, 7);
    }

    #[test]
    fn an_error_has_words_and_a_released_stream_is_not_released_again() {
        let (mut stream, alive) = stream(0);
        // SAFETY: a stream of ours that isn't released.
        assert!(unsafe { (stream.get_last_error.unwrap())(&mut stream) }.is_null());
        assert_eq!(next(&mut stream).err(), Some("no more".to_owned()));
        // SAFETY: as above.
        unsafe { (stream.release.unwrap())(&mut stream) };
        assert_eq!(Arc::strong_count(&alive), 1);
        drop(stream);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn a_buffer_starts_where_wide_values_may_and_is_never_nowhere() {
        for length in [0, 1, 7, 8, 9] {
            let bytes: Vec<u8> = (1..=length).collect();
            let buffer = Buffer::from(&bytes[..]);
            let found: Vec<u8> = buffer.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
            assert_eq!(found[..bytes.len()], bytes);
            assert!(!buffer.0.is_empty());
        }
    }
}
