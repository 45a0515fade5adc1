package oci

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
	"minivmm/guestimages/disk"
	"minivmm/guestimages/filetree"
)

// Policy determines when Build asks the registry which image a name refers to. The policy does not
// apply to names with a digest, because such images never change. It also does not apply to local
// files, because Build checks local files each time.
type Policy string

// The policies, with Docker's names.
const (
	PullMissing Policy = "missing" // ask only if the name is not in the cache
	PullAlways  Policy = "always"  // ask each time; if the registry does not respond, use the cached image and log it
	PullNever   Policy = "never"   // never ask
)

// Options of Build. The zero value is the default.
type Options struct {
	Pull   Policy          // "": PullMissing
	Limits filetree.Limits // of the unpacked image

	Install disk.Installer // installs missing file system tools; nil: a missing tool is an error
}

// Disk is an image's root file system in the cache.
type Disk struct {
	Path    string        // raw ext4 file system: read-only, shared by all guests of the image, accessible only to its owner because the image may be private
	ID      string        // image ID, "sha256:..."
	Command agent.Command // the image's command, also in the disk at agent.ImagePath
}

// Entries of the cache. If minivmm changes the content of disks, the disks need a new folder.
const (
	disks     = "oci/disk-2/" // + image ID: a folder with the two files below
	diskFile  = "disk.ext4"
	planFile  = "image.json"
	names     = "oci/names/" // + hash of a name for an image: a file with the image ID
	scratch   = "oci/scratch"
	treeInTmp = "tree"
)

// Build returns the disk of an image, and creates it if the cache does not have it. image is
// "oci:PATH[:TAG]", the path of a layout or archive that starts with "/", "./" or "../", or a
// registry name. If the image is in the cache, Build does not read an archive, and asks the
// registry only with PullAlways. If the image or its name is invalid, the error is an InvalidError.
func Build(ctx context.Context, c *cache.Cache, image string, o Options) (_ *Disk, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("image %s: %w", image, err)
		}
	}()
	ref, err := parse(image)
	if err != nil {
		return nil, err
	}
	if ref.remote != nil {
		if _, err := os.Lstat(image); err == nil {
			c.Logf("image %s: using this as a registry name; to use the local file or folder, write ./%s", image, image)
		}
	}
	policy := cmp.Or(o.Pull, PullMissing)
	if !slices.Contains([]Policy{PullMissing, PullAlways, PullNever}, policy) {
		return nil, invalidf("pull policy %q: want %s, %s or %s", policy, PullMissing, PullAlways, PullNever)
	}
	note := ref.note()
	known, err := lookUp(c, note)
	if err != nil {
		return nil, err
	}
	// Only a tag may later refer to another image while its note stays the same.
	if _, tag := ref.remote.(name.Tag); known != nil && (policy != PullAlways || !tag) {
		return known, nil
	}
	if ref.remote != nil && policy == PullNever {
		return nil, invalidf("not in the cache, and the pull policy is %q", policy)
	}
	switch {
	case ref.remote != nil:
		c.Logf("image %s: querying %s", image, ref.remote.Context().RegistryStr())
	case note != "":
		c.Logf("image %s: reading the archive", image)
	}
	im, err := ref.open(ctx, c.Path(scratch), o.Limits)
	if err != nil {
		if known != nil && ctx.Err() == nil && !errors.As(err, &InvalidError{}) {
			c.Logf("image %s: the registry does not respond (%v): using the cached image %s", image, err, known.ID)
			return known, nil
		}
		return nil, err
	}
	defer im.Close()
	d, err := im.disk(ctx, c, o)
	if err == nil && note != "" {
		err = c.Write(note, im.ID+"\n")
	}
	if err == nil && ref.remote != nil {
		err = c.Write(digestNote(im.root.String()), im.ID+"\n")
	}
	return d, err
}

// Create creates a writable disk of an image at path: a copy, with its own UUID, of the disk that
// Build returns. Create also returns the disk from Build. As in package disk, Create returns
// fs.ErrExist if path exists and force is false, and EBUSY if the old file at path is in use. An
// error leaves nothing at path.
func Create(ctx context.Context, c *cache.Cache, image, path string, force bool, o Options, opt disk.Options) (_ *Disk, err error) {
	opt.FS = disk.Ext4
	if err := opt.Check(); err != nil {
		return nil, err
	}
	b, err := disk.Begin(path, force)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	o.Install = opt.Install
	d, err := Build(ctx, c, image, o)
	if err != nil {
		return nil, err
	}
	return d, b.FromImage(ctx, d.Path, opt)
}

// disk returns the image's disk from the cache and creates it if it is missing.
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
		c.Logf("creating the disk of %s", im.ID)
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
		// Only for the owner: the environment may contain secrets.
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

// cached returns a disk that is in the cache.
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

// lookUp returns the disk that a note refers to, or nil.
func lookUp(c *cache.Cache, note string) (*Disk, error) {
	if note == "" {
		return nil, nil
	}
	text, err := c.Read(note)
	id := strings.TrimSpace(text)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && !c.Has(entryName(id)):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return cached(c, id)
}

// note returns the cache entry that stores the image ID for the reference. For a layout folder it
// returns "", because Build reads the folder's index each time.
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
	// Every change to the file sets its ctime. A program can set the mtime back.
	return noteName(fmt.Sprintf("file %q %q %d %d %d %d %d", path, r.tag, stat.Dev, stat.Ino, stat.Size, stat.Mtim.Nano(), stat.Ctim.Nano()))
}

func digestNote(digest string) string { return noteName("digest " + digest) }

func noteName(key string) string { return fmt.Sprintf("%s%x", names, sha256.Sum256([]byte(key))) }
