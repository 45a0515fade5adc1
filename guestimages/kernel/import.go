package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// ImportOptions are the options of Import.
type ImportOptions struct {
	// Modules is the folder of the kernel's modules, /lib/modules/RELEASE, or the folder that
	// was passed to "make modules_install" as INSTALL_MOD_PATH. If it lacks modules.dep,
	// depmod(8) creates it. "": the kernel has no modules.
	Modules string
	// Name is a name by which Find finds the kernel. If another kernel has the name, that
	// kernel loses it. "": no name.
	Name string
	// Default makes this kernel the default.
	Default bool
}

// maxImage limits the size of an image, in bytes: a vmlinux with debug information is about 1 GiB.
const maxImage = 4 << 30

// Import copies the kernel image, a bzImage or vmlinux for x86-64, into the store. If the kernel is
// there already, it is not added a second time, but gains the given modules and name. An
// *InputError reports that the image, the modules or the name cannot be used.
func (s *Store) Import(ctx context.Context, image string, o ImportOptions) (Kernel, error) {
	if o.Name != "" {
		if err := checkOwnName(o.Name); err != nil {
			return Kernel{}, err
		}
	}
	source, err := filepath.Abs(image)
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel: %w", err)
	}
	return s.add(ctx, o.Default, func(ctx context.Context, work string, r *record) error {
		r.Source, r.Name = source, o.Name
		dir := filepath.Join(work, entry)
		if err := copyFile(filepath.Join(dir, imageFile), image, maxImage); err != nil {
			return importError(image, err)
		}
		if err := takeImage(dir, r); err != nil {
			return importError(image, err)
		}
		if o.Modules == "" {
			return nil
		}
		from, err := findModules(o.Modules, r.Release)
		if err == nil {
			err = copyModules(ctx, modulesIn(dir, r), from)
		}
		if err == nil {
			err = finishModules(ctx, dir, r)
		}
		if err != nil {
			return importError(o.Modules, err)
		}
		return nil
	})
}

// importError adds what, the path of the import, to err. The result is an *InputError unless the
// machine is the cause.
func importError(what string, err error) error {
	err = fmt.Errorf("kernel: import %s: %w", what, err)
	machine := []error{unix.ENOSPC, unix.EDQUOT, unix.EFBIG, unix.EIO, unix.EROFS, unix.EMFILE, unix.ENFILE, unix.ENOMEM, errors.ErrUnsupported, context.Canceled, context.DeadlineExceeded}
	if slices.ContainsFunc(machine, func(cause error) bool { return errors.Is(err, cause) }) {
		return err
	}
	return &InputError{err}
}

// copyFile copies a regular file of at most limit bytes. The two share their blocks where the file
// system can.
func copyFile(to, from string, limit int64) error {
	// O_NONBLOCK: a FIFO must not hang the import.
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", from)
	}
	if info.Size() > limit {
		return fmt.Errorf("%s: %d bytes, more than the maximum of %d", from, info.Size(), limit)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, io.LimitReader(in, limit)); err != nil {
		return err
	}
	return out.Close()
}

// findModules finds the folder with the modules of that release in or below the user's dir.
func findModules(dir, release string) (string, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", errors.New("not a folder")
	}
	if release != "" {
		for _, below := range []string{filepath.Join("lib/modules", release), filepath.Join("usr/lib/modules", release), release} {
			if info, err := os.Stat(filepath.Join(dir, below)); err == nil && info.IsDir() {
				return filepath.Join(dir, below), nil
			}
		}
	}
	return dir, nil
}

// maxModules limits the number of files in a modules folder, and maxModule the size of each in
// bytes.
const (
	maxModules = 100_000
	maxModule  = 1 << 30
)

// copyModules copies a modules folder. It leaves out the links build and source, which lead to the
// folder in which the kernel was built. In place of any other link, it copies the file that the
// link leads to.
func copyModules(ctx context.Context, to, from string) error {
	files, found := 0, false
	// The folder itself may be a link.
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, below)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if below == "build" || below == "source" {
			return nil
		}
		if files++; files > maxModules {
			return fmt.Errorf("more than %d files", maxModules)
		}
		found = found || isModule(path)
		return copyFile(target, path, maxModule)
	})
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(to, "modules.dep")); err != nil && !found {
		return errors.New("contains neither modules.dep nor modules (.ko): want a folder like /lib/modules/RELEASE")
	}
	return nil
}
