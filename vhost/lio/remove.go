package lio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// remove removes a target and its backstores, as far as they exist: what Create
// made, in the reverse order, found by looking and not from memory, so that it
// works after a crash at any point.
func (t tree) remove(id identity) error {
	if err := t.removeTarget(t.path("vhost", wwpn(id))); err != nil {
		return err
	}
	for _, plugin := range []string{pluginFile, pluginBlock} {
		hba := t.path("core", id.hbaOf(plugin))
		stores, err := list(hba, id.String()+".")
		if err != nil {
			return err
		}
		for _, name := range stores {
			if err := t.rm(filepath.Join(hba, name)); err != nil {
				return err
			}
		}
		if err := t.removeHBA(hba); err != nil {
			return err
		}
	}
	return nil
}

// removePatiently is remove for a target whose vhost device is just being let
// go of, by a child before it execs or by a process that was killed.
func (t tree) removePatiently(id identity) error {
	const attempts, pause = 100, 10 * time.Millisecond
	err := t.remove(id)
	for i := 0; i < attempts && errors.Is(err, unix.EBUSY); i++ {
		time.Sleep(pause)
		err = t.remove(id)
	}
	return err
}

// removeHBA removes an adapter unless other targets of its owner have
// backstores there.
func (t tree) removeHBA(hba string) error {
	err := t.rm(hba)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) {
		return nil
	}
	return err
}

// rm removes a link or an object. One that is gone is no error.
func (t tree) rm(path string) error {
	if err := t.fs.remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// removeTarget removes the folder of a target. EBUSY if a vhost device has it
// as its endpoint.
func (t tree) removeTarget(dir string) error {
	tpgs, err := list(dir, "tpgt_")
	if err != nil {
		return err
	}
	for _, name := range tpgs {
		if err := t.removeTPG(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return t.rm(dir)
}

func (t tree) removeTPG(tpg string) error {
	acls, err := list(filepath.Join(tpg, "acls"), "naa."+prefix)
	if err != nil {
		return err
	}
	for _, name := range acls {
		if err := t.removeLUNs(filepath.Join(tpg, "acls", name)); err != nil {
			return err
		}
	}
	if err := t.removeLUNs(filepath.Join(tpg, "lun")); err != nil {
		return err
	}
	// The session goes before its ACL, and can only go without LUNs. ENODEV:
	// there is none.
	err = t.fs.write(filepath.Join(tpg, "nexus"), "NULL")
	if err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, name := range acls {
		if err := t.rm(filepath.Join(tpg, "acls", name)); err != nil {
			return err
		}
	}
	return t.rm(tpg)
}

// removeLUNs removes the folders lun_* in a folder, each with its link.
func (t tree) removeLUNs(dir string) error {
	luns, err := list(dir, "lun_")
	if err != nil {
		return err
	}
	for _, name := range luns {
		lun := filepath.Join(dir, name)
		paths, err := links(lun)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, path := range paths {
			if err := t.rm(path); err != nil {
				return err
			}
		}
		if err := t.rm(lun); err != nil {
			return err
		}
	}
	return nil
}

// Recover removes what owners that no longer run have left below root, and
// returns the names of the targets. What it cannot remove does not stop it from
// trying the rest; the error names all of it. Without LIO on the host there is
// nothing to do.
func Recover(root string) (removed []string, err error) {
	return newTree(root).recover()
}

func (t tree) recover() (removed []string, err error) {
	ids, err := t.identities()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, id := range ids {
		if id.alive() {
			continue
		}
		if err := t.removePatiently(id); err != nil {
			errs = append(errs, fmt.Errorf("left over from process %d: %w", id.pid, err))
			continue
		}
		removed = append(removed, wwpn(id))
	}
	errs = append(errs, t.removeEmptyHBAs())
	return removed, errors.Join(errs...)
}

// identities returns the identities of all targets and backstores.
func (t tree) identities() ([]identity, error) {
	var ids []identity
	seen := make(map[identity]bool)
	add := func(names []string, err error, cut string) error {
		for _, name := range names {
			if id, ok := parseIdentity(strings.TrimPrefix(name, cut)); ok && !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
		return err
	}
	targets, err := list(t.path("vhost"), "naa."+prefix)
	if err := add(targets, err, "naa."); err != nil {
		return nil, err
	}
	hbas, err := list(t.path("core"), "")
	if err != nil {
		return nil, err
	}
	for _, hba := range hbas {
		if _, ok := hbaPID(hba); !ok {
			continue
		}
		stores, err := list(t.path("core", hba), prefix)
		if err := add(stores, err, ""); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// removeEmptyHBAs removes the adapters of processes that are gone and left
// nothing else.
func (t tree) removeEmptyHBAs() error {
	hbas, err := list(t.path("core"), "")
	errs := []error{err}
	for _, hba := range hbas {
		pid, ok := hbaPID(hba)
		if !ok {
			continue
		}
		if _, err := findOwner(pid); errors.Is(err, os.ErrNotExist) {
			errs = append(errs, t.removeHBA(t.path("core", hba)))
		}
	}
	return errors.Join(errs...)
}
