// Package modules answers which kernel modules must be loaded, and in which order, to have the wanted ones. It reads what
// depmod(8) wrote (modules.dep, modules.builtin) and unpacks module files. It loads nothing.
//
// A Tree is read-only after Open and may be shared.
package modules
