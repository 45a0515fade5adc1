package boot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Options of [Open].
type Options struct {
	// CacheDir is where unpacked kernels are kept; made if it is missing.
	// Empty, or a folder that cannot be used: a packed kernel is unpacked
	// into memory at each start, and Info.NotCached says why.
	CacheDir string

	// Protocol is the entry to use; empty is Auto. Open fails if the image
	// does not have it.
	Protocol Protocol

	// KeepPacked enters a bzImage at its own decompressor, in the guest:
	// slower, but the kernel randomises its address (KASLR).
	KeepPacked bool

	now  func() time.Time // nil: time.Now
	into *os.File         // of Unpack: where a packed vmlinux is unpacked to, instead of the cache or memory
}

// Info says what an image is and where the kernel comes from.
type Info struct {
	Format   string   // "bzImage" or "vmlinux"
	Packing  string   // compression that was undone here: "zstd", ...; "" for none
	Source   Source   // what segments are read from
	Protocol Protocol // Linux64 or PVH

	// NotCached is why the unpacked kernel is not in the cache; nil if it is
	// or nothing was unpacked. Worth a line to the user: the next start
	// takes as long.
	NotCached error
	// NotUnpacked is why a bzImage is entered packed although KeepPacked
	// was not asked for; nil otherwise. Worth a line as well.
	NotUnpacked error
}

// Source is where a kernel's segments are read from.
type Source string

const (
	FromImage    Source = "image"    // the file given
	FromCache    Source = "cache"    // an earlier start unpacked it
	FromUnpacked Source = "unpacked" // this start unpacked it, into the cache
	FromMemory   Source = "memory"   // this start unpacked it, into memory
)

// Kernel is an image that was understood and can be loaded. It holds one open
// file and a few kilobytes.
type Kernel struct {
	path        string
	info        Info
	file        *os.File // what program's offsets refer to
	program     program
	header      []byte // struct setup_header; nil for a vmlinux
	cmdlineSize uint64
	initrdMax   uint64
}

// Info returns what the image is.
func (k *Kernel) Info() Info { return k.info }

// Close closes the kernel's file. Loaded guests do not need it any more.
func (k *Kernel) Close() error { return k.file.Close() }

// Open reads the headers of the kernel image at path, unpacks it if it is
// packed and not yet in the cache, and decides how it will be entered. Errors
// name the path and what is wrong with the image, or what else the file is.
func Open(path string, opt Options) (*Kernel, error) {
	// O_NONBLOCK: a FIFO must not hang the start.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	k, err := open(f, opt)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("kernel %s: %w", path, err)
	}
	if k.file != f {
		f.Close()
	}
	return k, nil
}

// open decides by content. The kernel it returns may or may not own f.
func open(f *os.File, opt Options) (*Kernel, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil, errors.New("a directory, not a kernel image")
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("not a regular file")
	}
	head, err := readHead(f, offHdrMax)
	if err != nil {
		return nil, err
	}
	k := &Kernel{path: f.Name(), file: f, cmdlineSize: defaultCmdline, initrdMax: defaultInitrdMax}
	k.info.Source = FromImage
	switch {
	case isBzImage(head):
		err = k.openBzImage(&st, head, opt)
	case isELF(head):
		k.info.Format = "vmlinux"
		k.program, err = parseELF(f, st.Size)
	case codecOf(head) != "":
		k.info.Format = "vmlinux"
		err = k.openPacked(&st, head, packedData{codec: codecOf(head), size: st.Size}, opt)
	default:
		if head, err = readHead(f, describeHead); err == nil {
			err = fmt.Errorf("%s, not a kernel image (bzImage or vmlinux for x86-64)", describe(head))
		}
	}
	if err == nil {
		err = k.choose(opt.Protocol)
	}
	if err != nil {
		if k.file != f {
			k.file.Close()
		}
		return nil, err
	}
	return k, nil
}

func (k *Kernel) openBzImage(st *unix.Stat_t, head []byte, opt Options) error {
	k.info.Format = "bzImage"
	z, err := parseBzImage(head, st.Size)
	if err != nil {
		return fmt.Errorf("bzImage: %w", err)
	}
	k.header, k.cmdlineSize, k.initrdMax = z.header, z.cmdlineSize, z.initrdMax
	k.program = z.packed()
	if opt.KeepPacked {
		return nil
	}
	data, err := z.payload(k.file)
	if errors.Is(err, errUnknownCodec) {
		k.info.NotUnpacked = err
		return nil
	}
	if err != nil {
		return fmt.Errorf("bzImage: %w", err)
	}
	return k.openPacked(st, head, data, opt)
}

// choose settles the protocol.
func (k *Kernel) choose(want Protocol) error {
	p := k.program
	switch want {
	case "", Auto:
		k.info.Protocol = Linux64
		if p.linux64 == 0 {
			k.info.Protocol = PVH
		}
	case Linux64:
		if p.linux64 == 0 {
			return errors.New("no 64-bit entry, only PVH")
		}
		k.info.Protocol = Linux64
	case PVH:
		if p.pvh == 0 {
			return errors.New("no PVH entry (a vmlinux built with CONFIG_PVH has one; a bzImage entered packed has none)")
		}
		k.info.Protocol = PVH
	default:
		return fmt.Errorf("unknown boot protocol %q, want %s, %s or %s", want, Auto, Linux64, PVH)
	}
	return nil
}

// openPacked replaces k's file and program by the vmlinux in data: from the
// cache, or unpacked now.
func (k *Kernel) openPacked(st *unix.Stat_t, head []byte, data packedData, opt Options) error {
	k.info.Packing = string(data.codec)
	if opt.into != nil {
		size, err := k.unpackTo(opt.into, st, data)
		if err != nil {
			return err
		}
		return k.adopt(opt.into, size, FromUnpacked)
	}
	err := k.throughCache(st, head, data, opt)
	var fatal imageError
	if err == nil || errors.As(err, &fatal) {
		return err
	}
	k.info.NotCached = err

	f, err := newMemoryFile()
	if err != nil {
		return err
	}
	size, err := k.unpackTo(f, st, data)
	if err == nil {
		err = k.adopt(f, size, FromMemory)
	}
	if err != nil {
		f.Close()
	}
	return err
}

// throughCache takes the vmlinux from the cache or puts it there. An error
// that is no imageError is the cache's.
func (k *Kernel) throughCache(st *unix.Stat_t, head []byte, data packedData, opt Options) error {
	c, err := openCache(opt.CacheDir)
	if err != nil {
		return err
	}
	key := newCacheKey(st, head)
	err = k.fromCache(c, key)
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		c.drop(key)
	}
	now := time.Now()
	if opt.now != nil {
		now = opt.now()
	}
	if !settled(st, now) {
		return fmt.Errorf("the image changed within the last %v", settleTime)
	}
	return k.unpackToCache(c, key, st, data)
}

func (k *Kernel) fromCache(c *cache, key cacheKey) error {
	f, size, err := c.lookup(key)
	if err != nil {
		return err
	}
	if err := k.adopt(f, size, FromCache); err != nil {
		f.Close()
		return err
	}
	return nil
}

// imageError is an error that another place to unpack to would not mend.
type imageError struct{ error }

func (e imageError) Unwrap() error { return e.error }

// unpackToCache unpacks into a new cache entry.
func (k *Kernel) unpackToCache(c *cache, key cacheKey, st *unix.Stat_t, data packedData) error {
	f, err := c.create()
	if err != nil {
		return err
	}
	size, err := k.unpackTo(f, st, data)
	if err == nil {
		if err = k.adopt(f, size, FromUnpacked); err == nil {
			// k has the file, whatever becomes of its name.
			if k.info.NotCached = c.commit(f, key, size); k.info.NotCached != nil {
				c.discard(f)
			}
			return nil
		}
	}
	c.discard(f)
	f.Close()
	return err
}

// unpackTo writes the vmlinux in data to f and returns its length.
func (k *Kernel) unpackTo(f *os.File, st *unix.Stat_t, data packedData) (int64, error) {
	w := &writeErrors{w: f}
	size, err := data.unpack(w, k.file)
	if w.err != nil {
		return 0, w.err
	}
	if err != nil {
		return 0, imageError{fmt.Errorf("unpack: %w", err)}
	}
	// The codec's window is up to maxWindow bytes of garbage now. The guest is
	// about to need memory, and this process nothing of the kind again. Two
	// collections, because a sync.Pool, which lz4 uses, outlives one.
	runtime.GC()
	debug.FreeOSMemory()

	var now unix.Stat_t
	if err := unix.Fstat(int(k.file.Fd()), &now); err != nil {
		return 0, imageError{os.NewSyscallError("fstat", err)}
	}
	if newCacheKey(&now, nil) != newCacheKey(st, nil) {
		return 0, imageError{errors.New("the image changed while it was read")}
	}
	return size, nil
}

// adopt makes the first size bytes of f the vmlinux that k is loaded from.
func (k *Kernel) adopt(f *os.File, size int64, from Source) error {
	p, err := parseELF(f, size)
	if err != nil {
		if head, readErr := readHead(io.NewSectionReader(f, 0, size), describeHead); readErr == nil && !isELF(head) {
			err = fmt.Errorf("holds %s, not a vmlinux", describe(head))
		}
		return imageError{fmt.Errorf("%s data: %w", k.info.Packing, err)}
	}
	k.file, k.program, k.info.Source = f, p, from
	return nil
}
