/**
 * Work on a node that is done later: from a timer, a promise, a widget's callback, a menu.
 *
 * By then the node may have been removed, made anew in a subgraph, by undo or by redo, or its workflow closed. A node
 * without a graph has no ways to others, and one of another workflow's graph leads to whatever has its numbers now. So
 * all such work goes through here, and is dropped when the node is not there any more.
 */
import { app } from '../../scripts/app.js'
import { nodesOfKind } from './graph.js'

/** Whether the open workflow has this very node, in a subgraph or not. */
function isThere(node) {
  return nodesOfKind(app.rootGraph, node.comfyClass).includes(node)
}

/** A function that does work(node, ...values) if the node is there when it is called. */
export function ifThere(node, work) {
  return (...values) => {
    if (isThere(node)) work(node, ...values)
  }
}

/** Do work(node) when the page is through with what it is doing. */
export function soon(node, work) {
  setTimeout(ifThere(node, work))
}

/** Do work(node, value) with what `ask` gives: at once, or, if that is a promise, with what it gives when that is kept. */
export function withAnswer(node, ask, work) {
  const answer = ask(node)
  if (answer instanceof Promise) answer.then(ifThere(node, () => withAnswer(node, ask, work)))
  else work(node, answer)
}
