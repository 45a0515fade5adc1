package disk

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"minivmm/guestimages/filetree"
)

// InputError reports an invalid request by the caller, such as a size that is too small or a file
// of the wrong kind.
type InputError struct{ text string }

func (e *InputError) Error() string { return e.text }

func inputErrorf(format string, args ...any) error {
	return &InputError{fmt.Sprintf(format, args...)}
}

// FS is a kind of file system.
type FS string

// The file systems that this package creates.
const (
	None  FS = ""      // no file system: all bytes are zero
	Ext4  FS = "ext4"  // for reading and writing
	Erofs FS = "erofs" // read-only, as small as its content
)

// Options describe the image to create.
type Options struct {
	FS        FS
	SizeBytes int64     // a multiple of 4096; 0: the size of the content, for ext4 with room to grow
	Label     string    // of the file system: at most 16 bytes for ext4, 15 for erofs
	UUID      string    // of the file system, like "0b0c...-...". "": random, or for a tree, derived from everything except file contents
	Install   Installer // installs missing programs; nil: a missing program is an error
}

// blockSize is the block size of the file systems. Image sizes are multiples of it.
const blockSize = 4096

const uuidForm = `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`

// matches compiles the pattern only when it is called, because most runs of the program need no
// pattern.
func matches(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }

// Check returns an *InputError for options that no image can have. Every function that creates an
// image calls Check. A caller can call it earlier, before long work.
func (o *Options) Check() error {
	longest := map[FS]int{Ext4: 16, Erofs: 15}
	most, known := longest[o.FS]
	switch {
	case o.FS != None && !known:
		return inputErrorf("unknown file system %q: want %q or %q", o.FS, Ext4, Erofs)
	case o.SizeBytes < 0 || o.SizeBytes%blockSize != 0:
		return inputErrorf("invalid disk size of %d bytes: it must be a multiple of 4096 (4K)", o.SizeBytes)
	case o.FS == None && o.Label != "":
		return inputErrorf("a label needs a file system")
	case len(o.Label) > most:
		return inputErrorf("label %q is too long: %s allows at most %d bytes", o.Label, o.FS, most)
	case strings.ContainsFunc(o.Label, func(r rune) bool { return r < ' ' }):
		return inputErrorf("label %q contains control characters", o.Label)
	case o.UUID != "" && !matches(uuidForm, o.UUID):
		return inputErrorf("%q is not a valid UUID (lower case, 8-4-4-4-12 hexadecimal digits)", o.UUID)
	}
	return nil
}

// formatUUID turns 16 bytes into a UUID (RFC 9562) of the given version: 4 is random, 8 is custom.
func formatUUID(b []byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	return uuidText(b)
}

func uuidText(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func randomUUID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return formatUUID(b, 4)
}

// treeUUID returns the same UUID for the same tree and options. The UUID depends on the sizes of
// files but not on their contents, because reading all contents would take as long as creating the
// image.
func treeUUID(t *filetree.Tree, o Options) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d\n", o.FS, o.Label, o.SizeBytes)
	for n := range t.All() {
		fmt.Fprintf(h, "%q %q %q %d %d %d %d %d %d %d.%d\n",
			n.Path, n.Target, n.Link, n.Mode, n.UID, n.GID, n.Major, n.Minor, n.SizeBytes, n.ModTime.Unix(), n.ModTime.Nanosecond())
		for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
			fmt.Fprintf(h, "%q %q\n", name, n.Xattrs[name])
		}
	}
	return formatUUID(h.Sum(nil), 8)
}

// another derives a second UUID from the given one.
func another(uuid string) string {
	sum := sha256.Sum256([]byte(uuid))
	return formatUUID(sum[:], 8)
}

func (o *Options) tool(ctx context.Context, name string) (string, error) {
	pkg := "e2fsprogs"
	if o.FS == Erofs {
		pkg = "erofs-utils"
	}
	return findTool(ctx, o.Install, "creating a disk with "+string(o.FS), name, pkg)
}
