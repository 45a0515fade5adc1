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

// Create makes the file whole or not at all: write's output goes to a file in a work folder beside it (package workdir), which
// takes the name when everything is on the disk. What is there before is replaced if it is a regular file, and else an error. When
// ctx ends, so does the next write, with its cause.
func Create(ctx context.Context, file string, write func(w io.Writer) error) (err error) {
	if target, err := filepath.EvalSymlinks(file); err == nil {
		info, err := os.Stat(target)
		if err != nil {
			return fmt.Errorf("initrd: %w", err)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("initrd: %s is there and is not a regular file", file)
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

// ContextWriter writes to w until ctx ends; then each write gives its cause.
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
