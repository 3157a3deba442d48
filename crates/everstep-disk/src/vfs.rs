//! A VFS of SQLite that stands before its own `unix` one and lets a [`Device`] see, and fail, every call that reaches a
//! disk. Locks and shared memory are those of the real one. All of the crate's unsafe code is here.
#![allow(unsafe_code, reason = "a VFS is a table of C functions")]

use std::{
    cell::Cell,
    ffi::{CStr, c_char, c_int, c_void},
    mem,
    path::{Path, PathBuf},
    ptr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use everstep_sqlite::rusqlite::ffi::{
    self, SQLITE_CANTOPEN, SQLITE_FULL, SQLITE_IOERR_DELETE, SQLITE_IOERR_FSTAT, SQLITE_IOERR_FSYNC,
    SQLITE_IOERR_READ, SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE,
    SQLITE_OK, sqlite3_file, sqlite3_filename, sqlite3_io_methods, sqlite3_syscall_ptr, sqlite3_vfs,
};

/// The name under which it is registered.
pub const NAME: &str = "everstep-disk";

/// What SQLite asks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Opens a file, and makes it if need be.
    Open,
    /// Asks for a file's length.
    Length,
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Cuts a file.
    Truncate,
    /// Waits until a file is durable.
    Sync,
    /// Deletes a file.
    Delete,
    /// Maps a piece of the `-shm` file, and makes that longer.
    Map,
}

/// How a disk fails a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `EIO`.
    Io,
    /// `ENOSPC`.
    Full,
    /// Half of the bytes, then `EIO`.
    ShortIo,
    /// Half of the bytes, then `ENOSPC`.
    ShortFull,
}

/// What was done to a file, by its name without its folder.
#[derive(Debug)]
pub enum Done<'a> {
    /// It is open now, and was made if it was not there.
    Opened,
    /// These bytes were written at this place.
    Written(u64, &'a [u8]),
    /// It was cut to this length, or made longer.
    Truncated(u64),
    /// It is durable.
    Synced,
    /// Its folder is durable: which names there are, and what they mean.
    FolderSynced,
    /// It was deleted.
    Deleted,
}

/// Sees what happens to the files of one folder.
pub trait Device: Send + Sync {
    /// Before a call: whether the disk fails it.
    fn before(&self, call: Call, file: &str) -> Option<Failure>;
    /// After a call that did something.
    fn after(&self, file: &str, done: Done<'_>);
}

/// The devices by the folders they watch.
static WATCHED: Mutex<Vec<(PathBuf, Arc<dyn Device>)>> = Mutex::new(Vec::new());

/// Ends the watch when it is dropped; files that are open then are watched on.
#[derive(Debug)]
pub struct Watch(PathBuf);

impl Drop for Watch {
    fn drop(&mut self) {
        watched().retain(|(folder, _)| *folder != self.0);
    }
}

fn watched() -> std::sync::MutexGuard<'static, Vec<(PathBuf, Arc<dyn Device>)>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets `device` see everything that goes through [`NAME`] to files in `folder`.
pub fn watch(folder: &Path, device: Arc<dyn Device>) -> Watch {
    register();
    let folder = folder.canonicalize().expect("the folder is there");
    watched().push((folder.clone(), device));
    Watch(folder)
}

fn device_of(path: &Path) -> Option<Arc<dyn Device>> {
    let folder = path.parent()?;
    watched().iter().find(|(of, _)| of == folder).map(|(_, device)| device.clone())
}

/// What our part of an open file is.
struct Seen {
    /// `None` for temporary files, which nobody finds again.
    device: Option<Arc<dyn Device>>,
    name: String,
}

impl Seen {
    fn fails(&self, call: Call) -> Option<Failure> {
        self.device.as_ref()?.before(call, &self.name)
    }

    fn tell(&self, done: Done<'_>) {
        if let Some(device) = &self.device {
            device.after(&self.name, done);
        }
    }
}

/// An open file as SQLite sees it; the real one stands behind it in the same allocation.
#[repr(C)]
struct File {
    base: sqlite3_file,
    seen: *mut Seen,
}

/// The `unix` VFS, and its way to open a folder in order to sync it.
struct Real {
    vfs: *mut sqlite3_vfs,
    open_folder: OpenFolder,
}

type OpenFolder = unsafe extern "C" fn(*const c_char, *mut c_int) -> c_int;

// SAFETY: SQLite keeps the `unix` VFS for as long as the process lives and calls it from every thread itself.
unsafe impl Send for Real {}
// SAFETY: as above; nothing of it is changed after `register`.
unsafe impl Sync for Real {}

static REAL: OnceLock<Real> = OnceLock::new();

fn real() -> &'static Real {
    REAL.get().expect("registered before SQLite can call")
}

thread_local! {
    /// Whether SQLite has opened a folder during this call: it does that only to sync it.
    static FOLDER_OPENED: Cell<bool> = const { Cell::new(false) };
}

/// Registers the VFS, once.
fn register() {
    // SAFETY: SQLite initialises itself in `sqlite3_vfs_find`; the table that is copied is valid for good, and so is the
    // copy, which is never freed. `openDirectory` has had this signature since it exists (os_unix.c, `aSyscall`).
    REAL.get_or_init(|| unsafe {
        let vfs = ffi::sqlite3_vfs_find(c"unix".as_ptr());
        assert!(!vfs.is_null(), "SQLite has its `unix` VFS");
        let get = (*vfs).xGetSystemCall.expect("`unix` has it");
        let open_folder = get(vfs, c"openDirectory".as_ptr()).expect("`unix` opens folders");
        let open_folder = mem::transmute::<unsafe extern "C" fn(), OpenFolder>(open_folder);
        let ours = mem::transmute::<OpenFolder, unsafe extern "C" fn()>(x_open_folder);
        let ours: sqlite3_syscall_ptr = Some(ours);
        let set = (*vfs).xSetSystemCall.expect("`unix` has it");
        assert_eq!(set(vfs, c"openDirectory".as_ptr(), ours), SQLITE_OK);
        let mut own: sqlite3_vfs = ptr::read(vfs);
        own.szOsFile += mem::size_of::<File>() as c_int;
        own.pNext = ptr::null_mut();
        own.zName = c"everstep-disk".as_ptr();
        own.xOpen = Some(x_open);
        own.xDelete = Some(x_delete);
        assert_eq!(ffi::sqlite3_vfs_register(Box::into_raw(Box::new(own)), 0), SQLITE_OK);
        Real { vfs, open_folder }
    });
}

unsafe extern "C" fn x_open_folder(name: *const c_char, fd: *mut c_int) -> c_int {
    FOLDER_OPENED.set(true);
    // SAFETY: as SQLite called us.
    unsafe { (real().open_folder)(name, fd) }
}

/// The real file behind one of ours.
fn behind(file: *mut sqlite3_file) -> *mut sqlite3_file {
    file.wrapping_byte_add(mem::size_of::<File>())
}

/// What we know of an open file.
///
/// # Safety
/// `file` was opened by [`x_open`] and is not closed.
unsafe fn seen<'a>(file: *mut sqlite3_file) -> &'a Seen {
    // SAFETY: `x_open` put a valid box there, which `x_close` alone frees.
    unsafe { &*(*file.cast::<File>()).seen }
}

/// Passes a call on to the real file.
macro_rules! real {
    ($file:ident . $method:ident ( $($arg:expr),* )) => {{
        let real = behind($file);
        // SAFETY: SQLite calls us with an open file, so the real one behind it is open too, and its methods are all there
        // (version 2 or 3); the arguments are SQLite's own.
        unsafe { ((*(*real).pMethods).$method.expect("unix files have it"))(real $(, $arg)*) }
    }};
}

/// Methods that are none of our business.
macro_rules! pass_on {
    ($($name:ident ( $($arg:ident : $kind:ty),* ) -> $method:ident;)*) => {
        $(unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $arg: $kind)*) -> c_int {
            real!(file.$method($($arg),*))
        })*
    };
}

pass_on! {
    x_lock(level: c_int) -> xLock;
    x_unlock(level: c_int) -> xUnlock;
    x_check_reserved(is: *mut c_int) -> xCheckReservedLock;
    x_control(op: c_int, arg: *mut c_void) -> xFileControl;
    x_sector() -> xSectorSize;
    x_characteristics() -> xDeviceCharacteristics;
    x_shm_lock(at: c_int, n: c_int, flags: c_int) -> xShmLock;
    x_shm_unmap(delete: c_int) -> xShmUnmap;
}

unsafe extern "C" fn x_shm_barrier(file: *mut sqlite3_file) {
    real!(file.xShmBarrier())
}

unsafe extern "C" fn x_shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: an open file of ours.
    match unsafe { seen(file) }.fails(Call::Map) {
        Some(Failure::Full | Failure::ShortFull) => SQLITE_IOERR_SHMSIZE,
        Some(Failure::Io | Failure::ShortIo) => SQLITE_IOERR_SHMMAP,
        None => real!(file.xShmMap(page, size, extend, out)),
    }
}

unsafe extern "C" fn x_close(file: *mut sqlite3_file) -> c_int {
    let code = real!(file.xClose());
    // SAFETY: SQLite closes a file once; the box was made by `x_open`.
    drop(unsafe { Box::from_raw((*file.cast::<File>()).seen) });
    code
}

unsafe extern "C" fn x_length(file: *mut sqlite3_file, length: *mut i64) -> c_int {
    // SAFETY: an open file of ours.
    match unsafe { seen(file) }.fails(Call::Length) {
        Some(_) => SQLITE_IOERR_FSTAT,
        None => real!(file.xFileSize(length)),
    }
}

unsafe extern "C" fn x_read(file: *mut sqlite3_file, to: *mut c_void, n: c_int, at: i64) -> c_int {
    // SAFETY: an open file of ours.
    match unsafe { seen(file) }.fails(Call::Read) {
        Some(failure) => {
            if matches!(failure, Failure::ShortIo | Failure::ShortFull) {
                real!(file.xRead(to, n / 2, at));
            }
            SQLITE_IOERR_READ
        }
        None => real!(file.xRead(to, n, at)),
    }
}

unsafe extern "C" fn x_write(file: *mut sqlite3_file, from: *const c_void, n: c_int, at: i64) -> c_int {
    // SAFETY: an open file of ours.
    let seen = unsafe { seen(file) };
    let failure = seen.fails(Call::Write);
    let n = match failure {
        None => n,
        Some(Failure::ShortIo | Failure::ShortFull) => n / 2,
        Some(Failure::Io) => return SQLITE_IOERR_WRITE,
        Some(Failure::Full) => return SQLITE_FULL,
    };
    let code = real!(file.xWrite(from, n, at));
    if code == SQLITE_OK {
        // SAFETY: SQLite gives `n` bytes, or more.
        let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), n as usize) };
        seen.tell(Done::Written(at as u64, bytes));
    }
    match failure {
        None => code,
        Some(Failure::ShortFull) => SQLITE_FULL,
        Some(_) => SQLITE_IOERR_WRITE,
    }
}

unsafe extern "C" fn x_truncate(file: *mut sqlite3_file, length: i64) -> c_int {
    // SAFETY: an open file of ours.
    let seen = unsafe { seen(file) };
    if seen.fails(Call::Truncate).is_some() {
        return SQLITE_IOERR_TRUNCATE;
    }
    let code = real!(file.xTruncate(length));
    if code == SQLITE_OK {
        seen.tell(Done::Truncated(length as u64));
    }
    code
}

unsafe extern "C" fn x_sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: an open file of ours.
    let seen = unsafe { seen(file) };
    if seen.fails(Call::Sync).is_some() {
        return SQLITE_IOERR_FSYNC;
    }
    FOLDER_OPENED.set(false);
    let code = real!(file.xSync(flags));
    if code == SQLITE_OK {
        seen.tell(Done::Synced);
        if FOLDER_OPENED.get() {
            seen.tell(Done::FolderSynced);
        }
    }
    code
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(x_close),
    xRead: Some(x_read),
    xWrite: Some(x_write),
    xTruncate: Some(x_truncate),
    xSync: Some(x_sync),
    xFileSize: Some(x_length),
    xLock: Some(x_lock),
    xUnlock: Some(x_unlock),
    xCheckReservedLock: Some(x_check_reserved),
    xFileControl: Some(x_control),
    xSectorSize: Some(x_sector),
    xDeviceCharacteristics: Some(x_characteristics),
    xShmMap: Some(x_shm_map),
    xShmLock: Some(x_shm_lock),
    xShmBarrier: Some(x_shm_barrier),
    xShmUnmap: Some(x_shm_unmap),
    // Memory maps would be writes that nobody sees; Everstep has none.
    xFetch: None,
    xUnfetch: None,
};

/// Who sees a file, by its path; nobody if it has none.
///
/// # Safety
/// `path` is null or a string.
unsafe fn seen_at(path: *const c_char) -> Seen {
    if path.is_null() {
        return Seen { device: None, name: String::new() };
    }
    // SAFETY: see above.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    let path = Path::new(&path);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Seen { device: device_of(path), name }
}

unsafe extern "C" fn x_open(
    _: *mut sqlite3_vfs,
    path: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives null or a string.
    let seen = unsafe { seen_at(path) };
    // SAFETY: SQLite gives `szOsFile` bytes, which are room for our part and the real file. A file without methods is not
    // closed.
    unsafe { (*file).pMethods = ptr::null() };
    if seen.fails(Call::Open).is_some() {
        return SQLITE_CANTOPEN;
    }
    // SAFETY: the real VFS gets its own room and SQLite's arguments.
    let code = unsafe {
        (*behind(file)).pMethods = ptr::null();
        ((*real().vfs).xOpen.expect("`unix` opens files"))(real().vfs, path, behind(file), flags, out)
    };
    if code == SQLITE_OK {
        seen.tell(Done::Opened);
        // SAFETY: as above; both fields are plain pointers.
        unsafe {
            (*file.cast::<File>()).seen = Box::into_raw(Box::new(seen));
            (*file).pMethods = &raw const METHODS;
        }
    }
    code
}

unsafe extern "C" fn x_delete(_: *mut sqlite3_vfs, path: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: SQLite gives a string.
    let seen = unsafe { seen_at(path) };
    if seen.fails(Call::Delete).is_some() {
        return SQLITE_IOERR_DELETE;
    }
    FOLDER_OPENED.set(false);
    // SAFETY: SQLite's arguments.
    let code =
        unsafe { ((*real().vfs).xDelete.expect("`unix` deletes files"))(real().vfs, path, sync_folder) };
    if code == SQLITE_OK {
        seen.tell(Done::Deleted);
        if FOLDER_OPENED.get() {
            seen.tell(Done::FolderSynced);
        }
    }
    code
}
