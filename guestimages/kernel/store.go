package kernel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
)

const (
	folder        = "kernels" // the cache's folder for kernels, and the name of the lock on the index
	indexName     = folder + "/index.json"
	removedSuffix = ".removed" // suffix of a kernel's folder while the kernel is being removed
)

// Store is the set of kernels in a cache.
type Store struct {
	cache   *cache.Cache
	archive *debian.Archive
	install bool // install missing programs that unpacking requires
	now     func() time.Time
}

// Open returns the store in the cache c. It fetches kernels from the Debian archive that this
// computer's package sources name.
func Open(c *cache.Cache) *Store { return OpenWith(debian.New(c)) }

// OpenWith returns the store in the archive's cache. It fetches kernels from that archive.
func OpenWith(a *debian.Archive) *Store { return &Store{cache: a.Cache(), archive: a, now: time.Now} }

// List returns all kernels, in the order in which they were added.
func (s *Store) List() ([]Kernel, error) {
	return s.lookUp(func(x *index) ([]record, error) { return x.Kernels, nil })
}

// Find returns the kernel that name selects. "" selects the default kernel. Otherwise name is a
// name given at import, a release ("6.1.0-50-cloud-amd64"), a package, at least the first 6 digits
// of an ID, or a series. A series selects its newest package in the store, never an imported
// kernel: "6.12" selects the newest package of flavour cloud, "6.12-amd64" the newest of flavour
// amd64. Of several kernels with the same release, Find returns the last one added. Find reads one
// small file. If no kernel matches, the error matches fs.ErrNotExist.
func (s *Store) Find(name string) (Kernel, error) {
	found, err := s.lookUp(func(x *index) ([]record, error) { return x.find(name) })
	if err != nil {
		return Kernel{}, err
	}
	if len(found) == 0 {
		return Kernel{}, notHereError(name)
	}
	return found[len(found)-1], nil
}

// lookUp returns the kernels of the records that find chooses.
func (s *Store) lookUp(find func(*index) ([]record, error)) ([]Kernel, error) {
	x, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	records, err := find(x)
	var found []Kernel
	for _, r := range records {
		if s.isThere(r) {
			found = append(found, s.kernel(x, r))
		}
	}
	return found, err
}

// find returns the kernels that name matches, best match last.
func (x *index) find(name string) ([]record, error) {
	if name == "" {
		return x.matching(func(r record) bool { return r.ID == x.Default }), nil
	}
	if found := x.matching(func(r record) bool { return r.Name == name }); len(found) > 0 {
		return found, nil
	}
	if found := x.matching(func(r record) bool { return r.Release == name && !r.Unasked || r.Package == name }); len(found) > 0 {
		return found, nil
	}
	if isIDPrefix(name) {
		if found := x.matching(func(r record) bool { return strings.HasPrefix(r.ID, name) }); len(found) > 1 {
			return nil, ambiguous(name, found)
		} else if len(found) == 1 {
			return found, nil
		}
	}
	q, err := parseRequest(name)
	if err != nil || q.series == "" {
		return nil, nil
	}
	found := x.matching(func(r record) bool { return r.Package != "" && matchesSeries(r.Release, q.series, q.flavour) })
	slices.SortStableFunc(found, func(a, b record) int { return debian.CompareVersions(a.Release, b.Release) })
	return found, nil
}

// Remove deletes the kernel that name selects, as in Find, but fails if name matches several.
// Running guests keep the kernel's files.
func (s *Store) Remove(ctx context.Context, name string) (Kernel, error) {
	var gone Kernel
	err := s.change(ctx, func(x *index) error {
		found, err := x.find(name)
		switch {
		case err != nil:
			return err
		case len(found) == 0:
			return notHereError(name)
		case len(found) > 1:
			return ambiguous(name, found)
		}
		gone = s.kernel(x, found[0])
		// Remove the files first: that frees space for the index, which may name kernels
		// without files.
		path := s.path(gone.ID)
		if err := os.Rename(path, path+removedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("kernel: %w", err)
		}
		x.remove(gone.ID)
		return s.removeUnnamed(x)
	})
	return gone, err
}

// SetDefault makes the kernel that name selects, as in Find, the default.
func (s *Store) SetDefault(ctx context.Context, name string) error {
	k, err := s.Find(name)
	if err != nil {
		return err
	}
	return s.change(ctx, func(x *index) error {
		if !slices.ContainsFunc(x.Kernels, func(r record) bool { return r.ID == k.ID }) {
			return notHereError(name)
		}
		x.Default = k.ID
		return nil
	})
}

// path returns the path of the kernel with that ID.
func (s *Store) path(id string) string { return s.cache.Path(folder + "/" + id) }

func (s *Store) kernel(x *index, r record) Kernel {
	k := Kernel{ID: r.ID, Release: r.Release, Name: r.Name, Source: r.Source, ModulesID: r.ModulesID, Default: r.ID == x.Default, SizeBytes: r.SizeBytes}
	in := func(name string) string {
		if name == "" {
			return ""
		}
		return filepath.Join(s.path(r.ID), filepath.FromSlash(name))
	}
	k.Image, k.Vmlinux, k.Modules = in(r.Image), in(r.Vmlinux), in(r.Modules)
	return k
}

// isThere reports whether the kernel's image exists: a user may have removed it by hand.
func (s *Store) isThere(r record) bool {
	_, err := os.Stat(filepath.Join(s.path(r.ID), r.Image))
	return err == nil
}

// change reads the index, calls edit to change it, and writes it, all under the lock. Afterwards it
// removes kernels that the index does not name, even if the write failed.
func (s *Store) change(ctx context.Context, edit func(*index) error) error {
	unlock, err := s.cache.Lock(ctx, folder)
	if err != nil {
		return err
	}
	defer unlock()
	x, err := s.readIndex()
	if err != nil {
		return err
	}
	if err := edit(x); err != nil {
		return err
	}
	b, err := json.MarshalIndent(x, "", "\t")
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if err := s.cache.Write(indexName, string(append(b, '\n'))); err != nil {
		old, rerr := s.readIndex() // the old index is still on disk
		if rerr != nil {
			return errors.Join(err, rerr)
		}
		return errors.Join(err, s.removeUnnamed(old))
	}
	return s.removeUnnamed(x)
}

// removeUnnamed removes the kernels that the index does not name: kernels that were removed, and
// kernels added by a process that died before it wrote the index.
func (s *Store) removeUnnamed(x *index) error {
	list, err := os.ReadDir(s.cache.Path(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("kernel: %w", err)
	}
	for _, e := range list {
		named := slices.ContainsFunc(x.Kernels, func(r record) bool { return r.ID == e.Name() })
		id := strings.TrimSuffix(e.Name(), removedSuffix)
		if named || len(id) != wholeID || !isIDPrefix(id) {
			continue
		}
		if err := s.cache.Remove(folder + "/" + e.Name()); err != nil {
			return err
		}
	}
	return nil
}
