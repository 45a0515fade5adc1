package filetree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/unpack"
)

// AddTar overlays the tree with the entries of a tar, which may be compressed with gzip, zstd, xz,
// lz4 or bzip2. It reads r to its end. A tar without an end marker is an error: it is truncated.
func (t *Tree) AddTar(ctx context.Context, r io.Reader) error {
	return t.addTar(ctx, r, false)
}

// AddLayer is like AddTar, but for a layer of an OCI image. An entry .wh.NAME hides NAME in earlier
// layers, and .wh..wh..opq hides all entries of its folder in earlier layers. Whiteouts do not hide
// entries of their own layer, whatever the order. As in a container runtime, an entry below a
// symbolic link, of this or an earlier layer, goes to the link's target inside the tree's root.
func (t *Tree) AddLayer(ctx context.Context, r io.Reader) error {
	return t.addTar(ctx, r, true)
}

func (t *Tree) addTar(ctx context.Context, r io.Reader, whiteouts bool) error {
	unpacked, _, err := unpack.NewReader(r)
	if err != nil {
		return fmt.Errorf("filetree: tar: %w", err)
	}
	defer unpacked.Close()
	l := t.newLayer()
	l.follow = whiteouts
	if err := l.readTar(ctx, t.limits.stream(ctx, unpacked), whiteouts); err != nil {
		return fmt.Errorf("filetree: tar: %w", err)
	}
	return l.apply()
}

// Reader returns a reader of r, an uncompressed tar. It fails when ctx is canceled, and with
// ErrTooLarge if r is longer than any tar within the limits.
func (limits Limits) Reader(ctx context.Context, r io.Reader) io.Reader { return limits.stream(ctx, r) }

func (limits Limits) stream(ctx context.Context, r io.Reader) *stream {
	limits = limits.orDefault()
	// archive/tar accepts 1 MiB of headers for a file. Few files have more than two blocks of them.
	left := int64(math.MaxInt64)
	if perFile := int64(5 << 10); int64(limits.Files) < (left-limits.SizeBytes-1<<20)/perFile {
		left = limits.SizeBytes + int64(limits.Files)*perFile + 1<<20
	}
	return &stream{ctx: ctx, r: r, left: left}
}

// stream fails when ctx is canceled or after more than left bytes. It never returns io.EOF together
// with data, so that ended is true only if the caller has read beyond the last byte.
type stream struct {
	ctx   context.Context
	r     io.Reader
	left  int64
	ended bool
}

func (s *stream) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if s.ended {
		return 0, io.EOF
	}
	n, err := s.r.Read(p)
	if s.left -= int64(n); s.left < 0 {
		return 0, fmt.Errorf("the uncompressed data is too long: %w", ErrTooLarge)
	}
	if err == io.EOF {
		if n > 0 {
			return n, nil
		}
		s.ended = true
	}
	return n, err
}

func (l *layer) readTar(ctx context.Context, in *stream, whiteouts bool) error {
	tr := tar.NewReader(in)
	for last := ""; ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after entry %s: %w", short(last), err)
		}
		last = h.Name
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		hides := false
		if whiteouts {
			hides, err = l.whiteout(h.Name)
		}
		if err == nil && !hides {
			err = l.addHeader(ctx, h, tr)
		}
		if err != nil {
			return fmt.Errorf("entry %s: %w", short(h.Name), err)
		}
	}
	if in.ended {
		return errors.New("truncated: no end marker")
	}
	// Read to the end, so that the decompressor verifies a checksum after the end marker.
	_, err := io.Copy(io.Discard, in)
	return named("after the end marker", err)
}

// addHeader adds the entry of one header with its content.
func (l *layer) addHeader(ctx context.Context, h *tar.Header, content io.Reader) error {
	n, err := fromHeader(h)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return l.link(h.Name, h.Linkname)
	}
	if n.isFile() {
		if h.Size > l.t.limits.SizeBytes-l.t.size {
			return fmt.Errorf("a file of %d bytes exceeds the limit of %d bytes in total: %w", h.Size, l.t.limits.SizeBytes, ErrTooLarge)
		}
		if err := l.t.store(ctx, &n, content); err != nil {
			return err
		}
	}
	return l.put(n)
}

// fileTypes maps the tar types that become nodes to the file type bits of st_mode.
var fileTypes = map[byte]uint32{
	tar.TypeReg:       unix.S_IFREG,
	tar.TypeCont:      unix.S_IFREG,
	tar.TypeGNUSparse: unix.S_IFREG,
	tar.TypeDir:       unix.S_IFDIR,
	tar.TypeSymlink:   unix.S_IFLNK,
	tar.TypeChar:      unix.S_IFCHR,
	tar.TypeBlock:     unix.S_IFBLK,
	tar.TypeFifo:      unix.S_IFIFO,
}

// fromHeader returns the node that a header describes, without content.
func fromHeader(h *tar.Header) (Node, error) {
	typ, ok := fileTypes[h.Typeflag]
	if !ok && h.Typeflag != tar.TypeLink {
		return Node{}, fmt.Errorf("unknown type %q", h.Typeflag)
	}
	for _, f := range []struct {
		what  string
		value int64
	}{{"uid", int64(h.Uid)}, {"gid", int64(h.Gid)}, {"device major", h.Devmajor}, {"device minor", h.Devminor}} {
		if f.value < 0 || f.value > math.MaxUint32 {
			return Node{}, fmt.Errorf("%s %d does not fit in 32 bits", f.what, f.value)
		}
	}
	n := Node{
		Path:    h.Name,
		Mode:    typ | uint32(h.Mode&0o7777),
		UID:     uint32(h.Uid),
		GID:     uint32(h.Gid),
		Major:   uint32(h.Devmajor),
		Minor:   uint32(h.Devminor),
		ModTime: h.ModTime,
		Target:  h.Linkname,
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if n.Xattrs == nil {
				n.Xattrs = map[string][]byte{}
			}
			n.Xattrs[strings.Clone(name)] = []byte(value)
		}
	}
	return n, nil
}

// Whiteouts, as in the OCI image specification, layer.md. Names that start with the prefix twice,
// except the opaque marker, are internal files of AUFS, which have no meaning elsewhere.
const (
	whiteoutPrefix = ".wh."
	auPrefix       = whiteoutPrefix + whiteoutPrefix
	opaqueMark     = auPrefix + ".opq" // ".wh..wh..opq"
)

// whiteout reports whether an entry is a whiteout or an internal file of AUFS, neither of which is
// added. It records what a whiteout hides.
func (l *layer) whiteout(name string) (bool, error) {
	p, err := clean(name)
	if err != nil {
		return false, err
	}
	if dir, base := split(p); base == opaqueMark {
		l.opaque = append(l.opaque, strings.Clone(dir))
		return true, l.t.count(p)
	}
	for rest, at := p, ""; rest != ""; {
		var step string
		step, rest = cut(rest)
		if strings.HasPrefix(step, auPrefix) {
			return true, nil
		}
		if hidden, ok := strings.CutPrefix(step, whiteoutPrefix); ok {
			if rest != "" {
				return false, fmt.Errorf("its path leads through the whiteout %s", short(path.Join(at, step)))
			}
			if hidden == "" || hidden == "." || hidden == ".." {
				return false, errors.New("the whiteout has no valid name")
			}
			l.gone = append(l.gone, strings.Clone(path.Join(at, hidden)))
			return true, l.t.count(p)
		}
		at = path.Join(at, step)
	}
	return false, nil
}
