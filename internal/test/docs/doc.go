// Package docs holds tests only. They read every Markdown file of the repository, and
// fail for a line over 100 columns and for a link or path that leads nowhere.
package docs
