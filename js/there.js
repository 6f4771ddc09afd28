/**
 * Work that is done later: from a timer, a promise, a widget's callback, a menu.
 *
 * By then a node may have been removed, made anew in a subgraph, by undo or by redo, or its workflow closed. A node
 * without a graph has no ways to others, and one of another workflow's graph leads to whatever has its numbers now. So
 * all such work goes through here, and is dropped when the node is not there any more.
 */
import { nodesOfKind } from './graph.js'

/** A function that does work(node, ...values) if the open workflow has this very node when it is called. */
export function ifThere(node, work) {
  return (...values) => {
    if (nodesOfKind(node.comfyClass).includes(node)) work(node, ...values)
  }
}

/** Do work, which finds its nodes by itself, when the page is through with what it is doing. */
export function later(work) {
  setTimeout(work)
}

/** Do work(node, value) with what a promise gives. */
export function withAnswer(node, promise, work) {
  promise.then(ifThere(node, work))
}
