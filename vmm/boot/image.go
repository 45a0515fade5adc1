package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"minivmm/internal/unpack"

	"golang.org/x/sys/unix"
)

// Options of [Open].
type Options struct {
	// Protocol selects the entry; empty means Auto. Open fails if the image does not support the
	// protocol.
	Protocol Protocol

	// KeepPacked enters a bzImage at its own decompressor, in the guest. This is slower, but the
	// kernel randomizes its address (KASLR).
	KeepPacked bool

	into *os.File // set by Unpack: the file to which a packed vmlinux is written, instead of a memfd
}

// Info describes an image and how its kernel is loaded.
type Info struct {
	Packing  string   // compression that was unpacked here: "zstd", ...; "" for none
	Protocol Protocol // Linux64 or PVH

	// NotUnpacked is the reason why a bzImage is entered packed although KeepPacked is not set,
	// else nil. Callers should log it.
	NotUnpacked error

	// Version, which only Unpack reads, is the version string of the kernel: its release as printed
	// by uname -r and, in a bzImage, the builder and build date. "" if the image has none.
	Version string
}

// Kernel is a parsed image that can be loaded. It holds one open file and a few kilobytes of
// memory.
type Kernel struct {
	path        string
	info        Info
	file        *os.File // the file that program's offsets refer to
	program     program
	header      []byte // struct setup_header; nil for a vmlinux
	cmdlineSize uint64
	initrdMax   uint64
}

// Info describes the image.
func (k *Kernel) Info() Info { return k.info }

// Close closes the kernel's file. Loaded guests do not need it.
func (k *Kernel) Close() error { return k.file.Close() }

// Open reads the headers of the kernel image at path, unpacks it into memory if it is packed, and
// chooses the entry protocol. Errors name the path. They also name the problem with the image, or
// the kind of file that path names. The caller must call Close.
func Open(path string, opt Options) (*Kernel, error) {
	// O_NONBLOCK: opening a FIFO must not block.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	k, err := open(f, opt)
	if err != nil || k.file != f {
		f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", path, err)
	}
	return k, nil
}

// open recognizes the format by content. The returned Kernel owns f only if its file is f.
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
	switch {
	case isBzImage(head):
		err = k.openBzImage(&st, head, opt)
	case isELF(head):
		k.program, err = parseELF(f, st.Size)
	case unpack.Format(head) != "":
		err = k.openPacked(&st, packedData{codec: unpack.Format(head), size: st.Size}, opt)
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
	return k.openPacked(st, data, opt)
}

// choose sets the entry protocol.
func (k *Kernel) choose(want Protocol) error {
	k.info.Protocol = want
	switch {
	case want == Linux64 && k.program.linux64 == 0:
		return errors.New("no 64-bit entry, only PVH")
	case want == PVH && k.program.pvh == 0:
		return errors.New("no PVH entry (a vmlinux built with CONFIG_PVH has one; a bzImage entered packed has none)")
	case want == Linux64 || want == PVH:
	case want != "" && want != Auto:
		return fmt.Errorf("unknown boot protocol %q, want %s, %s or %s", want, Auto, Linux64, PVH)
	case k.program.linux64 != 0:
		k.info.Protocol = Linux64
	default:
		k.info.Protocol = PVH
	}
	return nil
}

// openPacked replaces k's file and program with the vmlinux in data.
func (k *Kernel) openPacked(st *unix.Stat_t, data packedData, opt Options) error {
	k.info.Packing = data.codec
	f := opt.into
	if f == nil {
		fd, err := unix.MemfdCreate("minivmm-vmlinux", unix.MFD_CLOEXEC)
		if err != nil {
			return fmt.Errorf("unpack in memory: %w", os.NewSyscallError("memfd_create", err))
		}
		f = os.NewFile(uintptr(fd), "memfd:minivmm-vmlinux")
	}
	size, err := k.unpackTo(f, st, data)
	if err == nil {
		err = k.adopt(f, size)
	}
	if err != nil && f != opt.into {
		f.Close()
	}
	return err
}

// unpackTo writes the vmlinux in data to f and returns its length.
func (k *Kernel) unpackTo(f *os.File, st *unix.Stat_t, data packedData) (int64, error) {
	size, err := data.unpack(f, k.file)
	if err != nil {
		return 0, fmt.Errorf("unpack: %w", err)
	}
	// The codec's window, up to 128 MiB, is garbage now. Return this memory to the host: the guest
	// needs memory next, and this process does not need the window again. Two collections are
	// necessary, because a sync.Pool, which lz4 uses, survives one collection.
	runtime.GC()
	debug.FreeOSMemory()

	var now unix.Stat_t
	if err := unix.Fstat(int(k.file.Fd()), &now); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	if now.Size != st.Size || now.Mtim != st.Mtim || now.Ctim != st.Ctim {
		return 0, errors.New("the image changed while it was being read")
	}
	return size, nil
}

// adopt makes k load the vmlinux in the first size bytes of f.
func (k *Kernel) adopt(f *os.File, size int64) error {
	p, err := parseELF(f, size)
	if err != nil {
		if head, readErr := readHead(io.NewSectionReader(f, 0, size), describeHead); readErr == nil && !isELF(head) {
			err = fmt.Errorf("holds %s, not a vmlinux", describe(head))
		}
		return fmt.Errorf("%s data: %w", k.info.Packing, err)
	}
	k.file, k.program = f, p
	return nil
}
