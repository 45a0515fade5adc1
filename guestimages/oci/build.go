package oci

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
	"minivmm/guestimages/disk"
	"minivmm/guestimages/filetree"
)

// Policy says when the registry is asked what a name means. A name with a digest always means the same, and files of this
// machine are looked at each time.
type Policy string

// The policies, with Docker's words.
const (
	PullMissing Policy = "missing" // if that is not known yet
	PullAlways  Policy = "always"  // each time; what was known counts, and a line says so, if the registry does not answer
	PullNever   Policy = "never"   // not at all
)

// Options of Build. The zero value is the default.
type Options struct {
	Pull   Policy          // "": PullMissing
	Limits filetree.Limits // of the unpacked image

	Install disk.Installer // gets the programs that make a file system; may be nil
}

// Disk is an image's root file system in the cache.
type Disk struct {
	Path    string        // of a raw ext4 file system: read-only, shared by all guests of the image, and for its owner only, as the image may be
	ID      string        // the image's, "sha256:..."
	Command agent.Command // what the image runs, as in the disk at agent.ImagePath
}

// Entries of the cache. A change of what a disk holds needs a new folder.
const (
	disks     = "oci/disk-2/" // + the image's ID: a folder with
	diskFile  = "disk.ext4"
	planFile  = "image.json"
	names     = "oci/names/" // + hash of what names an image: its ID
	scratch   = "oci/scratch"
	treeInTmp = "tree"
)

// Build returns the disk of the image that a string names, and makes it if the cache does not have it: "oci:PATH[:TAG]", the
// path of a layout or archive that begins with "/", "./" or "../", or a name at a registry. For what is known, neither the registry is asked nor an archive read. An error that is the fault of the image or its name is an
// InvalidError; after any error nothing half-made is left.
func Build(ctx context.Context, c *cache.Cache, image string, o Options) (*Disk, error) {
	d, err := build(ctx, c, image, o)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image, err)
	}
	return d, nil
}

func build(ctx context.Context, c *cache.Cache, image string, o Options) (*Disk, error) {
	ref, err := parse(image)
	if err != nil {
		return nil, err
	}
	if ref.remote != nil {
		if _, err := os.Lstat(image); err == nil {
			c.Logf("image %s: a name at a registry; the file or folder of that name here is ./%s", image, image)
		}
	}
	policy := o.Pull
	switch policy {
	case "":
		policy = PullMissing
	case PullMissing, PullAlways, PullNever:
	default:
		return nil, invalidf("pull policy %q: want %s, %s or %s", policy, PullMissing, PullAlways, PullNever)
	}
	note := ref.note()
	known, err := lookUp(c, note)
	if err != nil {
		return nil, err
	}
	if known != nil && (policy != PullAlways || !ref.mayMove()) {
		return known, nil
	}
	if ref.remote != nil && policy == PullNever {
		return nil, invalidf("it is not in the cache, and the pull policy is %s", policy)
	}
	switch {
	case ref.remote != nil:
		c.Logf("image %s: asking %s", image, ref.remote.Context().RegistryStr())
	case note != "":
		c.Logf("image %s: reading the archive", image)
	}
	im, err := ref.open(ctx, c.Path(scratch), o.Limits)
	if err != nil {
		if known != nil && ctx.Err() == nil && !errors.As(err, &InvalidError{}) {
			c.Logf("image %s: the registry does not answer (%v): using what the name meant before, %s", image, err, known.ID)
			return known, nil
		}
		return nil, err
	}
	defer im.Close()
	d, err := im.disk(ctx, c, o)
	if err != nil {
		return nil, err
	}
	notes := []string{note}
	if ref.remote != nil {
		notes = append(notes, digestNote(im.root.String()))
	}
	for _, n := range notes {
		if n == "" {
			continue
		}
		if err := c.Write(n, im.ID+"\n"); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// disk is the cache's disk of the image, made if it is absent.
func (im *Image) disk(ctx context.Context, c *cache.Cache, o Options) (*Disk, error) {
	_, err := c.Make(ctx, entryName(im.ID), func(ctx context.Context, tmp string) error {
		work := filepath.Join(tmp, treeInTmp)
		if err := os.MkdirAll(work, 0o755); err != nil {
			return err
		}
		tree, err := filetree.New(work, o.Limits)
		if err != nil {
			return err
		}
		if err := im.Unpack(ctx, tree, c.Logf); err != nil {
			return err
		}
		if err := im.finish(tree); err != nil {
			return err
		}
		c.Logf("making the disk of %s", im.ID)
		path := filepath.Join(tmp, diskFile)
		if err := disk.FromTree(ctx, tree, path, false, disk.Options{FS: disk.Ext4, Install: o.Install}); err != nil {
			var cannot *disk.InputError
			if errors.As(err, &cannot) {
				return invalid(err)
			}
			return err
		}
		if err := os.Chmod(path, 0o400); err != nil {
			return err
		}
		b, err := json.Marshal(im.Command())
		if err != nil {
			return err
		}
		// The environment may hold what is for nobody else.
		if err := os.WriteFile(filepath.Join(tmp, planFile), b, 0o600); err != nil {
			return err
		}
		return os.RemoveAll(work)
	})
	if err != nil {
		return nil, err
	}
	return cached(c, im.ID)
}

func entryName(id string) string { return disks + strings.ReplaceAll(id, ":", "-") }

// cached is a disk that the cache has.
func cached(c *cache.Cache, id string) (*Disk, error) {
	d := &Disk{Path: filepath.Join(c.Path(entryName(id)), diskFile), ID: id}
	b, err := c.Read(entryName(id) + "/" + planFile)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(b), &d.Command); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Path(entryName(id)), err)
	}
	return d, nil
}

// lookUp is the disk that a note leads to, or nil.
func lookUp(c *cache.Cache, note string) (*Disk, error) {
	if note == "" {
		return nil, nil
	}
	text, err := c.Read(note)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id := strings.TrimSpace(text)
	if !c.Has(entryName(id)) {
		return nil, nil
	}
	return cached(c, id)
}

// mayMove says whether the name may mean another image later, without its note noticing.
func (r reference) mayMove() bool {
	_, tag := r.remote.(name.Tag)
	return tag
}

// note is the cache's entry for what the reference means; "" for a layout, whose index is read each time.
func (r reference) note() string {
	switch {
	case r.remote != nil:
		if d, ok := r.remote.(name.Digest); ok {
			return digestNote(d.DigestStr())
		}
		return noteName("name " + r.remote.Name())
	case r.info.IsDir():
		return ""
	}
	path, err := filepath.Abs(r.path)
	stat, ok := r.info.Sys().(*syscall.Stat_t)
	if err != nil || !ok {
		return ""
	}
	// The time of change is set by whatever changes the file, that of modification can be set back.
	return noteName(fmt.Sprintf("file %q %q %d %d %d %d %d", path, r.tag, stat.Dev, stat.Ino, stat.Size, stat.Mtim.Nano(), stat.Ctim.Nano()))
}

func digestNote(digest string) string { return noteName("digest " + digest) }

func noteName(key string) string { return fmt.Sprintf("%s%x", names, sha256.Sum256([]byte(key))) }
