package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// loadModules loads the files, which must be in load order.
func loadModules(files []string, words cmdline) error {
	for _, file := range files {
		if err := loadModule(file, words.parameters(moduleName(file))); err != nil {
			return err
		}
	}
	return nil
}

func moduleName(file string) string {
	return strings.TrimSuffix(filepath.Base(file), ".ko")
}

func loadModule(file, parameters string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), parameters, 0)
	switch {
	// The module is loaded already, or its hardware is missing.
	case err == nil, errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENODEV):
		return nil
	}
	return &os.PathError{Op: "finit_module", Path: file, Err: err}
}
