package initrd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"minivmm/internal/workdir"
)

// Create creates a file at the path given by file, completely or not at all. The caller's write
// function fills a temporary file in a work folder beside that path (package workdir). Once all
// data is on the disk, Create renames the temporary file to the path. An existing regular file is
// replaced; any other existing file is an error. After ctx is done, the next write to w fails with
// the context's cause.
func Create(ctx context.Context, file string, write func(w io.Writer) error) (err error) {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		info, err := os.Stat(target)
		if err != nil {
			return fmt.Errorf("initrd: %w", err)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("initrd: %s exists and is not a regular file", file)
		}
		file = target
	}
	dir := filepath.Dir(file)
	if err := workdir.Sweep(dir); err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	work, err := workdir.Temp(dir)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	defer func() { err = errors.Join(err, work.Close()) }()
	f, err := os.OpenFile(filepath.Join(work.Path, "file"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	defer f.Close()
	if err := write(ContextWriter(ctx, f)); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	return nil
}

// ContextWriter returns a writer that writes to w until ctx is done. Every later write fails with
// the context's cause.
func ContextWriter(ctx context.Context, w io.Writer) io.Writer { return contextWriter{ctx, w} }

type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (w contextWriter) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.w.Write(p)
}
