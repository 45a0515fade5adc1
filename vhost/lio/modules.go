package lio

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Usable returns an error if this process cannot create targets. Usable loads missing modules and
// names them in notes.
func Usable() (notes []string, err error) { return kernelTree.prepare() }

// prepare makes sure that LIO and its vhost fabric are loaded. It returns notes about the modules
// it loaded.
func (t tree) prepare() (notes []string, err error) {
	if _, err := os.Stat(t.root); err != nil {
		note, err := t.load(err, "target_core_mod")
		if err != nil {
			return nil, err
		}
		notes = append(notes, note)
	}
	err = t.mkFabric()
	if errors.Is(err, unix.EINVAL) {
		note, loadErr := t.load(err, "vhost_scsi")
		if loadErr != nil {
			return notes, loadErr
		}
		notes = append(notes, note)
		err = t.mkFabric()
	}
	return notes, hint(err)
}

// mkFabric creates the folder of vhost targets. If the folder exists, mkFabric checks that targets
// can be created in it. The error is EINVAL if the module is missing: the kernel loads the modules
// of some other fabrics when their folder is created, but not the module of this fabric.
func (t tree) mkFabric() error {
	path := t.path("vhost")
	err := t.fs.mkdir(path)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	// Root in a user namespace does not own configfs.
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS); err != nil {
		return &os.PathError{Op: "create a target in", Path: path, Err: err}
	}
	return nil
}

// load loads a module whose folder is missing and returns a note about it. cause is the error that
// the missing folder caused. load makes one attempt, and only if the tree is at DefaultRoot.
func (t tree) load(cause error, module string) (note string, err error) {
	if t.root != DefaultRoot {
		return "", cause
	}
	if _, err := os.Stat(filepath.Dir(t.root)); err != nil {
		return "", fmt.Errorf("%w (no configfs: modprobe configfs; mount -t configfs configfs %s)", cause, filepath.Dir(t.root))
	}
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("%w (as root: modprobe %s)", cause, module)
	}
	if out, err := exec.Command("modprobe", module).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w (tried modprobe %s: %w: %s)", cause, module, err, strings.TrimSpace(string(out)))
	}
	if _, err := os.Stat(t.root); err != nil {
		return "", fmt.Errorf("%w (loaded %s; is configfs mounted? mount -t configfs configfs %s)", cause, module, filepath.Dir(t.root))
	}
	return "loaded the module " + module, nil
}

// hint adds the fix to an error of mkFabric.
func hint(err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w (needs root)", err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w (a module is missing: modprobe vhost_scsi target_core_file target_core_iblock; a module that was missing when the kernel first needed it is found only after a reboot)", err)
	}
	return err
}
