package main

import (
	"context"
	"errors"
	"fmt"

	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/probe"
)

// printChoice implements "emuhost probe".
func printChoice(ctx context.Context, c *cache.Cache, args []string) error {
	if len(args) != 0 {
		return &statusError{statusUsage, errors.New("probe takes no arguments")}
	}
	choice, err := probe.Choose(ctx, c, "auto")
	if err != nil {
		return err
	}
	_, err = fmt.Println(choice)
	return err
}
